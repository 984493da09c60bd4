package page

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/flightd"
)

// TestLateError checks that a client receives the error of a request that fails after more than the idle timeout.
func TestLateError(t *testing.T) {
	const idle = 2 * time.Second
	s := serve(t, flightd.Options{IdleTimeout: idle})
	in, body := io.Pipe()
	go func() {
		for range 4 {
			_, _ = io.WriteString(body, "{\"x\":1}\n") // the request fails even if writing the body fails
			time.Sleep(idle / 3)
		}
		_, _ = io.WriteString(body, "{\n")
		_ = body.Close()
	}()
	a, text := s.do(s.request(t.Context(), http.MethodPost, "/api/put?table=t&format=jsonl", in))
	s.expect(a, text, 400, "the body, line 5: ")
}
