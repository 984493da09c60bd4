package page

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/flightd"
)

// asUser returns a client with an admin's token for a user.
func (s *testServer) asUser(name string) *testServer {
	s.t.Helper()
	client := *s
	client.token = must.Get(flightd.NewToken(secret, flightd.Admin, name, time.Hour))(s.t)
	return &client
}

// flood sends a request n times at a time, and again when it ends, until the test ends. A body never ends.
func (s *testServer) flood(n int, method, path, body string) {
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(cancel)
	client := &http.Client{Transport: &http.Transport{}} // no connections of other clients
	for i := range n {
		go func() {
			for ctx.Err() == nil {
				text := strings.Replace(body, "ID", fmt.Sprintf("%016d", i), 1)
				r := s.request(ctx, method, path, strings.NewReader(text))
				if !strings.HasPrefix(body, "{") && body != "" {
					r.Body = trickle{ctx, strings.NewReader(text)}
				}
				a, err := client.Do(r)
				if err == nil {
					<-time.After(10 * time.Millisecond)
					buffer := make([]byte, 1)
					_, err = a.Body.Read(buffer)
					if err == nil && strings.HasPrefix(path, "/api/follow") {
						<-ctx.Done() // reads no more
					}
					_, _ = io.Copy(io.Discard, a.Body)
					_ = a.Body.Close()
				}
			}
		}()
	}
}

// trickle is a body that sends a text, and then one byte each 100 ms.
type trickle struct {
	ctx context.Context
	io.Reader
}

func (b trickle) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		select {
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		p[0] = '#'
		return 1, nil
	}
	return n, err
}

func (b trickle) Close() error { return nil }

// TestUsersOfOneHost measures how long a user waits while another user of the same host takes all that the server lets
// this user take. docs/security.md promises the limits.
func TestUsersOfOneHost(t *testing.T) {
	const idle = 3 * time.Second
	long := `{"id": "flood-ID", "sql": "SELECT sum(a.i * b.i % 7) FROM range(3000000) a(i), range(3000000) b(i)"}`
	for name, flood := range map[string]func(eve *testServer){
		"queries":  func(eve *testServer) { eve.flood(20, "POST", "/api/query", long) },
		"requests": func(eve *testServer) { eve.flood(200, "POST", "/api/query", long) },
		"lines":    func(eve *testServer) { eve.flood(20, "POST", "/write?db=E", "m v=1 1\n") },
		"memory":   func(eve *testServer) { eve.flood(200, "POST", "/write?db=E", strings.Repeat("#", 300<<10)) },
		"uploads": func(eve *testServer) {
			eve.flood(20, "POST", "/api/put?bucket=E&table=t&mode=append&format=csv", "x\n1\n")
		},
		"followers": func(eve *testServer) { eve.flood(20, "GET", "/api/follow?bucket=E&table=wide&every=1s", "") },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, flightd.Options{Secret: secret, IdleTimeout: idle, Queries: 4, Puts: 4, Memory: 64 << 20, MaxMessage: 1 << 20})
			s.putQuery("E", "wide", "SELECT repeat('x', 10000) AS x FROM range(3000)")
			flood(s.asUser("eve"))
			time.Sleep(2 * time.Second)
			bob := s.asUser("bob")
			for range 2 {
				start := time.Now()
				bob.wantPost("/api/query", `{"id": "0123456789abcdef", "sql": "SELECT 42"}`, 200)
				query := time.Since(start)
				bob.write("/write?db=B", "m v=1 1", 204, []string{"Authorization: Token " + bob.token})
				put := time.Since(start) - query
				t.Logf("query after %v, put after %v", query, put)
				if query > 8*time.Second || put > idle/3+idle+3*time.Second {
					t.Errorf("a query waited %v, and a put %v", query, put)
				}
			}
		})
	}
}
