package page

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

// A request that fails after longer than a client may stall is told why.
func TestLateError(t *testing.T) {
	const idle = 2 * time.Second
	s := serve(t, flightd.Options{IdleTimeout: idle})
	in, body := io.Pipe()
	go func() {
		for range 4 {
			_, _ = io.WriteString(body, "{\"x\":1}\n") // a failure is the request's, too
			time.Sleep(idle / 3)
		}
		_, _ = io.WriteString(body, "{\n")
		_ = body.Close()
	}()
	a, text := s.do(s.request(t.Context(), http.MethodPost, "/api/put?table=t&format=jsonl", in))
	s.wants(a, text, 400, "the body, line 5: ")
}
