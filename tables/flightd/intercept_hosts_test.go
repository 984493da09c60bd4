package flightd

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

var testSecret = []byte("a secret of strangers' tests")

// checkServed checks that an honest client with a new connection is served within a second.
func checkServed(ctx context.Context, t *testing.T, host, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if got, err := doAction(ctx, clientFrom(t, host, address), "ping", ""); err != nil || got != "pong" {
		t.Errorf("an honest client at %s was not served: ping = %q, %v, want pong", host, got, err)
	}
}

// bomb returns a gRPC frame with a compressed message of many empty strings.
func bomb(t *testing.T, parts int) []byte {
	t.Helper()
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	must.Get(z.Write(bytes.Repeat([]byte{0x1a, 0}, parts)))(t) // FlightDescriptor.path
	must.Do(t, z.Close())
	return append(binary.BigEndian.AppendUint32([]byte{1}, uint32(compressed.Len())), compressed.Bytes()...)
}

// TestCompressedRequests checks that a compressed request is refused without being decompressed, with or without
// a token.
func TestCompressedRequests(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret})
	ctx, token := withToken(t, testSecret, Read)
	message := bomb(t, 16_000_000) // 256 MB of strings
	for _, headers := range [][]string{nil, {"authorization", "Bearer " + token}} {
		for _, method := range []string{"GetFlightInfo", "GetSchema", "PollFlightInfo", "Handshake", "DoGet", "DoAction", "ListFlights", "DoPut"} {
			var code codes.Code
			used := procs.HeapPeak(func() {
				c := dialRaw(t, "127.0.0.1", address)
				stream, err := c.begin(method, append(headers, "grpc-encoding", "gzip")...)
				for rest := message; err == nil && len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
					err = c.framer.WriteData(stream, false, rest[:min(len(rest), 16<<10)])
				}
				must.Do(t, err)
				code = c.status(t, stream)
			})
			if code != codes.Unimplemented || used > 16<<20 {
				t.Errorf("compressed %s with headers %q: got %v and used %d MiB, want Unimplemented and at most 16 MiB", method, headers, code, used>>20)
			}
		}
	}
	checkServed(ctx, t, "127.0.0.2", address)
}

// TestUnfinishedMessages checks that the server reads messages only from authorized callers, and only within its
// limits on size and time.
func TestUnfinishedMessages(t *testing.T) {
	const claimed, connections = 249 << 20, 12
	_, _, address := serveTest(t, &Options{Secret: testSecret, IdleTimeout: 2 * time.Second})
	ctx, token := withToken(t, testSecret, Read)
	tokenHeader := []string{"authorization", "Bearer " + token}
	for _, c := range []struct {
		name, method string
		size         uint32
		headers      []string
		want         codes.Code
	}{
		{"large unauthenticated", "GetFlightInfo", claimed, nil, codes.Unauthenticated},
		{"large unauthenticated", "DoPut", claimed, nil, codes.Unauthenticated},
		{"large unauthenticated", "Handshake", claimed, nil, codes.ResourceExhausted},
		{"slow unauthenticated", "Handshake", 1000, nil, codes.DeadlineExceeded},
		{"large authorized", "GetFlightInfo", claimed, tokenHeader, codes.ResourceExhausted},
		{"large authorized", "GetSchema", claimed, tokenHeader, codes.ResourceExhausted},
		{"large authorized", "PollFlightInfo", claimed, tokenHeader, codes.ResourceExhausted},
		{"large authorized", "DoGet", claimed, tokenHeader, codes.ResourceExhausted},
		{"large authorized", "DoPut", claimed, tokenHeader, codes.ResourceExhausted},
		{"slow authorized", "GetFlightInfo", 1000, tokenHeader, codes.DeadlineExceeded},
		{"slow authorized", "DoAction", 1000, tokenHeader, codes.DeadlineExceeded},
		{"slow authorized", "DoPut", 1000, tokenHeader, codes.DeadlineExceeded},
	} {
		var senders sync.WaitGroup
		used := procs.HeapPeak(func() {
			for range connections {
				r := dialRaw(t, "127.0.0.1", address)
				stream, err := r.begin(c.method, c.headers...)
				if err == nil {
					err = r.claim(stream, c.size)
				}
				must.Do(t, err)
				senders.Go(func() {
					if c.size < claimed {
						if code := r.status(t, stream); code != c.want {
							t.Errorf("%s message of %s: got %v, want %v", c.name, c.method, code, c.want)
						}
					} else if sent := r.sendZeros(stream, 5*time.Second); sent > 8<<20 {
						t.Errorf("%s message of %s: the server read %d MiB, want at most 8", c.name, c.method, sent>>20)
					}
				})
			}
			checkServed(ctx, t, "127.0.0.2", address)
			senders.Wait()
		})
		if used > 64<<20 {
			t.Errorf("%s messages of %s: the server used %d MiB, want at most 64", c.name, c.method, used>>20)
		}
	}
	if _, err := dialTest(t, address).GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{strings.Repeat("x", 2<<20)}}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of 2 MiB: got %v, want ResourceExhausted", err)
	}
}

// TestOneHostsConnections checks that a host that opens as many connections as possible, each with a call
// without a message, does not block other hosts over Flight or HTTP.
func TestOneHostsConnections(t *testing.T) {
	const attackers = 1041
	s, _, address := serveTest(t, &Options{Secret: testSecret})
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	web := &http.Server{ReadHeaderTimeout: time.Minute, ConnState: s.Conns.SetState, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	go func() { _ = web.Serve(s.Conns.Listener(l)) }()
	defer web.Close()
	ctx, token := withToken(t, testSecret, Admin)
	for name, begin := range map[string]func(*rawClient) error{
		"no call":             func(*rawClient) error { return nil },
		"a handshake":         func(c *rawClient) error { _, err := c.begin("Handshake"); return err },
		"a call with a token": func(c *rawClient) error { _, err := c.begin("DoPut", "authorization", "Bearer "+token); return err },
	} {
		var conns []*rawClient
		for range attackers {
			c := dialRaw(t, "127.0.0.1", address)
			_ = begin(c) // fails if the server closed c in favor of another connection
			conns = append(conns, c)
		}
		time.Sleep(200 * time.Millisecond)
		done, connecting := make(chan struct{}), sync.WaitGroup{}
		connecting.Go(func() { // connect as soon as the server accepts another connection
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
					conn, err := net.Dial("tcp", address)
					if err != nil {
						continue
					}
					defer conn.Close()
					_ = begin(newRawClient(conn))
				}
			}
		})
		for i := range 20 {
			host := fmt.Sprintf("127.0.0.%d", 2+i)
			checkServed(ctx, t, host, address)
			conn := dialFrom(t, host, l.Addr().String())
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "ok") {
				t.Errorf("connections with %s: GET /healthz from %s = %q, error %v; want ok", name, host, answer, err)
			}
		}
		close(done)
		connecting.Wait()
		if n := s.Conns.Count(); n > serving.DefaultConnections {
			t.Errorf("connections with %s: %d are open, want at most %d", name, n, serving.DefaultConnections)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		waitFor(t, "closed connections are still counted", func() bool { return s.Conns.Count() < 100 })
	}
	for host, u := range s.Conns.Hosts() {
		if u.Open+u.Strangers+u.Calls < 0 || u.Strangers > u.Open {
			t.Errorf("host %s has the counts %+v, want none below 0 and at most as many strangers as open connections", host, u)
		}
	}
}

// TestOpenHandshakes checks that open handshakes use little memory, and do not block other clients' handshakes.
func TestOpenHandshakes(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: testSecret, IdleTimeout: time.Minute})
	tokenCtx, token := withToken(t, testSecret, Read)
	for _, size := range []int{60_000, 12_000} {
		used := procs.HeapPeak(func() {
			for range 40 {
				c := dialRaw(t, "127.0.0.1", address)
				for range 127 {
					if _, err := c.begin("Handshake", "x", strings.Repeat("x", size)); err != nil {
						break
					}
				}
			}
			checkServed(tokenCtx, t, "127.0.0.2", address)
			c := clientFrom(t, "127.0.0.2", address)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.AuthenticateBasicToken(ctx, "anybody", token); err != nil {
				t.Errorf("another client's handshake failed: %v", err)
			}
		})
		open := s.access.handshakes.Count()
		if used > 100<<20 || open > maxHandshakes/8+1 {
			t.Errorf("handshakes with headers of %d bytes: %d are open and use %d MiB, want at most maxHandshakes/8+1 and 100 MiB", size, open, used>>20)
		}
	}
}

// TestConnectionLimits checks that the server limits the size of headers, the calls of a connection, and the
// time until a connection's first message.
func TestConnectionLimits(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret, IdleTimeout: 2 * time.Second})
	_, token := withToken(t, testSecret, Admin)
	silent := dialFrom(t, "127.0.0.1", address)
	c := dialRaw(t, "127.0.0.1", address)
	var headers []string
	for i := range 17 {
		headers = append(headers, fmt.Sprint("x-", i), strings.Repeat("x", 1000))
	}
	stream, err := c.begin("Handshake", headers...)
	must.Do(t, err)
	if code := c.status(t, stream); code != resetCode {
		t.Errorf("a call with headers of 17 KB: got %v, want a reset", code)
	}
	c = dialRaw(t, "127.0.0.1", address)
	for range 129 {
		if stream, err = c.begin("DoPut", "authorization", "Bearer "+token); err != nil {
			t.Fatal(err)
		}
	}
	if code := c.status(t, stream); code != resetCode {
		t.Errorf("the 129th call of a connection: got %v, want a reset", code)
	}
	_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a silent connection is still open after 10 seconds")
	}
}

// TestOneHostsCalls checks that a host at its limit of running calls does not block other hosts.
func TestOneHostsCalls(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret, IdleTimeout: time.Minute})
	ctx, token := withToken(t, testSecret, Admin)
	for remaining := serving.MaxHostCalls + 200; remaining > 0; remaining -= 100 { // more than the limit, because a busy server may close a connection
		c := dialRaw(t, "127.0.0.1", address)
		for range min(remaining, 100) {
			if _, err := c.begin("DoPut", "authorization", "Bearer "+token); err != nil {
				break
			}
		}
	}
	client := clientFrom(t, "127.0.0.1", address)
	waitFor(t, "calls above the limit are still accepted", func() bool {
		_, err := doAction(ctx, client, "ping", "")
		return status.Code(err) == codes.ResourceExhausted
	})
	checkServed(ctx, t, "127.0.0.2", address)
}

// TestCostlyRequests checks that requests that are large when decoded, and requests that are never completed,
// stay within the memory for messages.
func TestCostlyRequests(t *testing.T) {
	const memory, clients = 64 << 20, 120
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // collect garbage often, so that it hardly adds to the measured memory
	s, _, address := serveTest(t, &Options{Secret: testSecret, Memory: memory, MaxMessage: 16 << 20, IdleTimeout: 5 * time.Second})
	ctx, token := withToken(t, testSecret, Read)
	complete := append(binary.BigEndian.AppendUint32([]byte{0}, maxRequestSize), bytes.Repeat([]byte{0x1a, 0}, maxRequestSize/2)...)
	for name, message := range map[string][]byte{"complete": complete, "incomplete": complete[:len(complete)-1]} {
		var senders sync.WaitGroup
		used := procs.HeapPeak(func() {
			for range clients {
				c := dialRaw(t, "127.0.0.1", address)
				stream := must.Get(c.begin("GetFlightInfo", "authorization", "Bearer "+token))(t)
				senders.Go(func() {
					defer c.Close() //nolint:errcheck // otherwise, unread data stays in memory
					_ = c.SetDeadline(time.Now().Add(3 * time.Second))
					for rest := message; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
						if c.framer.WriteData(stream, name == "complete" && len(rest) <= 16<<10, rest[:min(len(rest), 16<<10)]) != nil {
							return
						}
					}
					for { // the answer does not matter here
						if _, err := c.framer.ReadFrame(); err != nil {
							return
						}
					}
				})
			}
			for range 5 {
				checkServed(ctx, t, "127.0.0.2", address)
				time.Sleep(100 * time.Millisecond)
			}
			senders.Wait()
		})
		t.Logf("%s: %d MiB at most", name, used>>20)
		if used > 3*memory {
			t.Errorf("%d %s requests use %d MiB, want at most %d", clients, name, used>>20, 3*memory>>20)
		}
		waitFor(t, "memory was not released", func() bool { runtime.GC(); return s.memory.Used() < 1<<20 })
	}
}

// TestStrangers checks that the number of strangers includes a connection until a call with a valid token uses it.
func TestStrangers(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: testSecret})
	client := dialTest(t, address)
	strangers := func() int { return s.Conns.Hosts()["127.0.0.1"].Strangers }
	if _, err := doAction(t.Context(), client, "ping", ""); status.Code(err) != codes.Unauthenticated || strangers() != 1 {
		t.Errorf("ping without a token: %v with %d strangers, want Unauthenticated with 1", err, strangers())
	}
	reader, _ := withToken(t, testSecret, Read)
	if _, err := doAction(reader, client, "ping", ""); err != nil || strangers() != 0 {
		t.Errorf("ping with a token: %v with %d strangers, want none", err, strangers())
	}
}
