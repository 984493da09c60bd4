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

	"github.com/go-partd/partd/tables"
)

var strangersSecret = []byte("a secret of strangers' tests")

// servedSoon checks that an honest client with a new connection is served within a second.
func servedSoon(ctx context.Context, t *testing.T, from, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if got, err := act(ctx, clientFrom(t, from, address), "ping", ""); err != nil || got != "pong" {
		t.Errorf("an honest client at %s: %v", from, err)
	}
}

// bomb returns a compressed message with many empty strings, as gRPC sends it.
func bomb(t *testing.T, parts int) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(bytes.Repeat([]byte{0x1a, 0}, parts)); err != nil { // FlightDescriptor.path
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{1}, uint32(packed.Len())), packed.Bytes()...)
}

// A compressed request is refused when it arrives, with or without a token.
func TestCompressedRequests(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: strangersSecret})
	with, token := withToken(t, strangersSecret, Read)
	message := bomb(t, 16_000_000) // 256 MB of strings
	for _, headers := range [][]string{nil, {"authorization", "Bearer " + token}} {
		for _, method := range []string{"GetFlightInfo", "GetSchema", "PollFlightInfo", "Handshake", "DoGet", "DoAction", "ListFlights", "DoPut"} {
			var code codes.Code
			took := peak(func() {
				c := rawFrom(t, "127.0.0.1", address)
				stream, err := c.begin(method, append(headers, "grpc-encoding", "gzip")...)
				for rest := message; err == nil && len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
					err = c.framer.WriteData(stream, false, rest[:min(len(rest), 16<<10)])
				}
				if err != nil {
					t.Fatal(err)
				}
				code = c.status(t, stream)
			})
			if code != codes.Unimplemented || took > 16<<20 {
				t.Errorf("%s with %d headers: %v, and %d MiB", method, len(headers), code, took>>20)
			}
		}
	}
	servedSoon(with, t, "127.0.0.2", address)
}

// The server reads a message only for authorized callers, and only within its limits on size and
// time.
func TestUnfinishedMessages(t *testing.T) {
	const claimed, connections = 249 << 20, 12
	_, _, address := serveTest(t, &Options{Secret: strangersSecret, IdleTimeout: 2 * time.Second})
	with, token := withToken(t, strangersSecret, Read)
	own := []string{"authorization", "Bearer " + token}
	for _, c := range []struct {
		name, method string
		size         uint32
		headers      []string
		want         codes.Code
	}{
		{"a stranger's", "GetFlightInfo", claimed, nil, codes.Unauthenticated},
		{"a stranger's", "DoPut", claimed, nil, codes.Unauthenticated},
		{"a stranger's, large", "Handshake", claimed, nil, codes.ResourceExhausted},
		{"a stranger's, slow", "Handshake", 1000, nil, codes.DeadlineExceeded},
		{"a reader's, large", "GetFlightInfo", claimed, own, codes.ResourceExhausted},
		{"a reader's, large", "GetSchema", claimed, own, codes.ResourceExhausted},
		{"a reader's, large", "PollFlightInfo", claimed, own, codes.ResourceExhausted},
		{"a reader's, large", "DoGet", claimed, own, codes.ResourceExhausted},
		{"a reader's, large", "DoPut", claimed, own, codes.ResourceExhausted},
		{"a reader's, slow", "GetFlightInfo", 1000, own, codes.DeadlineExceeded},
		{"a reader's, slow", "DoAction", 1000, own, codes.DeadlineExceeded},
		{"a reader's, slow", "DoPut", 1000, own, codes.DeadlineExceeded},
	} {
		var all sync.WaitGroup
		took := peak(func() {
			for range connections {
				r := rawFrom(t, "127.0.0.1", address)
				stream, err := r.begin(c.method, c.headers...)
				if err == nil {
					err = r.claim(stream, c.size)
				}
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					if c.size < claimed {
						if code := r.status(t, stream); code != c.want {
							t.Errorf("%s message of %s: %v", c.name, c.method, code)
						}
					} else if sent := r.pour(stream, 5*time.Second); sent > 8<<20 {
						t.Errorf("%s message of %s: the server read %d MiB", c.name, c.method, sent>>20)
					}
				})
			}
			servedSoon(with, t, "127.0.0.2", address)
			all.Wait()
		})
		if took > 64<<20 {
			t.Errorf("%s messages of %s: %d MiB", c.name, c.method, took>>20)
		}
	}
	if _, err := dialTest(t, address).GetFlightInfo(with, &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{strings.Repeat("x", 2<<20)}}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of 2 MiB: %v", err)
	}
}

// A host with as many connections as possible, each with a call without a message, leaves places
// for others, over Flight and HTTP.
func TestOneHostsConnections(t *testing.T) {
	const attackers = 1041
	s, _, address := serveTest(t, &Options{Secret: strangersSecret})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{ReadHeaderTimeout: time.Minute, ConnState: s.SetConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	go func() { _ = web.Serve(s.Listener(l)) }()
	defer web.Close()
	with, token := withToken(t, strangersSecret, Admin)
	for name, begin := range map[string]func(*rawClient) error{
		"nothing":      func(*rawClient) error { return nil },
		"a handshake":  func(c *rawClient) error { _, err := c.begin("Handshake"); return err },
		"a known call": func(c *rawClient) error { _, err := c.begin("DoPut", "authorization", "Bearer "+token); return err },
	} {
		var conns []*rawClient
		for range attackers {
			c := rawFrom(t, "127.0.0.1", address)
			_ = begin(c) // fails if the server closed it for another connection
			conns = append(conns, c)
		}
		time.Sleep(200 * time.Millisecond)
		done, pressing := make(chan struct{}), sync.WaitGroup{}
		pressing.Go(func() { // connect as soon as a place is free
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
					_ = begin(rawOn(conn))
				}
			}
		})
		for i := range 20 {
			from := fmt.Sprintf("127.0.0.%d", 2+i)
			servedSoon(with, t, from, address)
			conn := dialFrom(t, from, l.Addr().String())
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "ok") {
				t.Errorf("%s: /healthz from %s: %q %v", name, from, answer, err)
			}
		}
		close(done)
		pressing.Wait()
		if n := s.conns.count(); n > DefaultConnections {
			t.Errorf("%s: %d connections", name, n)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		waitFor(t, "closed connections are still counted", func() bool { return s.conns.count() < 100 })
	}
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	for host, u := range s.conns.hosts {
		if u.open+u.strangers+u.calls < 0 || u.strangers > u.open {
			t.Errorf("%s: %+v", host, *u)
		}
	}
}

// Open handshakes use little memory, and do not block others' handshakes.
func TestOpenHandshakes(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: strangersSecret, IdleTimeout: time.Minute})
	with, token := withToken(t, strangersSecret, Read)
	for _, size := range []int{60_000, 12_000} {
		took := peak(func() {
			for range 40 {
				c := rawFrom(t, "127.0.0.1", address)
				for range 127 {
					if _, err := c.begin("Handshake", "x", strings.Repeat("x", size)); err != nil {
						break
					}
				}
			}
			servedSoon(with, t, "127.0.0.2", address)
			c := clientFrom(t, "127.0.0.2", address)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.AuthenticateBasicToken(ctx, "anybody", token); err != nil {
				t.Errorf("another client's handshake: %v", err)
			}
		})
		s.handshakes.mu.Lock()
		open := len(s.handshakes.holders)
		s.handshakes.mu.Unlock()
		if took > 100<<20 || open > maxHandshakes/8+1 {
			t.Errorf("headers of %d bytes: %d MiB, and %d handshakes", size, took>>20, open)
		}
	}
}

// There are limits on headers, on the calls of a connection, and on the time until a connection's
// first message.
func TestConnectionLimits(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: strangersSecret, IdleTimeout: 2 * time.Second})
	_, token := withToken(t, strangersSecret, Admin)
	silent := dialFrom(t, "127.0.0.1", address)
	c := rawFrom(t, "127.0.0.1", address)
	var headers []string
	for i := range 17 {
		headers = append(headers, fmt.Sprint("x-", i), strings.Repeat("x", 1000))
	}
	stream, err := c.begin("Handshake", headers...)
	if err != nil {
		t.Fatal(err)
	}
	if code := c.status(t, stream); code != resetCode {
		t.Errorf("headers of 17 KB: %v", code)
	}
	c = rawFrom(t, "127.0.0.1", address)
	for range 129 {
		if stream, err = c.begin("DoPut", "authorization", "Bearer "+token); err != nil {
			t.Fatal(err)
		}
	}
	if code := c.status(t, stream); code != resetCode {
		t.Errorf("the 129th call of a connection: %v", code)
	}
	_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(silent); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a silent connection stays open")
	}
}

// A late caller gets a slot of the host, or of the user on the same host, with the most running
// calls.
func TestSlotsAreShared(t *testing.T) {
	s, store, address := serveTables(t, &tables.Options{Engine: &fakeEngine{ended: make(chan error, 100)}}, &Options{Secret: strangersSecret})
	if _, err := store.Bucket("").Put(t.Context(), "t", reader(t, numbers(1)), tables.PutError, nil); err != nil {
		t.Fatal(err)
	}
	s.queries.settled = 100 * time.Millisecond
	s.queries.spare = 0 // otherwise, a new host would not wait
	with, _ := withToken(t, strangersSecret, Read)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // tokens of one second and kind are equal, and count as one user
	other, _ := withToken(t, strangersSecret, Admin)
	ended := make(chan error, 16)
	forever := func(ctx context.Context, from string, n int) {
		for range n {
			c := clientFrom(t, from, address)
			go func() {
				st, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"name":"t","sql":"SELECT forever"}`)})
				for err == nil {
					_, err = st.Recv()
					time.Sleep(10 * time.Millisecond)
				}
				ended <- err
			}()
		}
	}
	run := func(ctx context.Context, from string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		st, err := clientFrom(t, from, address).DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"name":"t","sql":"SELECT * FROM t"}`)})
		if err == nil {
			_, err = st.Recv()
		}
		if err != nil {
			t.Errorf("a statement from %s: %v", from, err)
		}
	}
	forever(with, "127.0.0.1", 12)
	forever(with, "127.0.0.2", 4)
	waitFor(t, "the statements do not run", func() bool { running, _ := s.queries.counts(); return running == 16 })
	time.Sleep(200 * time.Millisecond)
	run(with, "127.0.0.3")
	if err := <-ended; status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "canceled in favor of other users") {
		t.Errorf("the canceled statement: %v", err)
	}
	forever(with, "127.0.0.4", 1)
	waitFor(t, "the statements do not run", func() bool { running, _ := s.queries.counts(); return running == 16 })
	time.Sleep(200 * time.Millisecond)
	run(other, "127.0.0.4") // the same host, another user
	if err := <-ended; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the canceled statement: %v", err)
	}
}

// Wrong tokens from one address are slowed down. Other addresses are not affected.
func TestGuessedTokens(t *testing.T) {
	s, _, _ := serveTest(t, &Options{Secret: strangersSecret})
	_, token := withToken(t, strangersSecret, Read)
	_, known := withToken(t, strangersSecret, Admin)
	if _, err := s.Verify("127.0.0.1:1", known); err != nil {
		t.Fatal(err)
	}
	looked := 0
	for i := range 100 {
		if _, err := s.Verify(fmt.Sprintf("127.0.0.1:%d", i), fmt.Sprintf("%sx%d", token, i)); err != ErrTooManyGuesses { //nolint:errorlint // it is never wrapped
			looked++
		}
	}
	if looked > 30 {
		t.Errorf("%d of 100 guesses were checked", looked)
	}
	if _, err := s.Verify("127.0.0.1:1", token); err != ErrTooManyGuesses { //nolint:errorlint // it is never wrapped
		t.Errorf("a further guess: %v", err)
	}
	for address, right := range map[string]string{"127.0.0.2:1": token, "127.0.0.1:1": known} {
		if _, err := s.Verify(address, right); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A host with as many calls as it may have leaves calls for others.
func TestOneHostsCalls(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: strangersSecret, IdleTimeout: time.Minute})
	with, token := withToken(t, strangersSecret, Admin)
	for left := maxHostCalls + 200; left > 0; left -= 100 { // more than the limit, as a busy server may close a connection
		c := rawFrom(t, "127.0.0.1", address)
		for range min(left, 100) {
			if _, err := c.begin("DoPut", "authorization", "Bearer "+token); err != nil {
				break
			}
		}
	}
	client := clientFrom(t, "127.0.0.1", address)
	waitFor(t, "a call above the limit is accepted", func() bool {
		_, err := act(with, client, "ping", "")
		return status.Code(err) == codes.ResourceExhausted
	})
	servedSoon(with, t, "127.0.0.2", address)
}

// Requests that are large when decoded, and requests that never end, stay within the memory for
// messages.
func TestCostlyRequests(t *testing.T) {
	const memory, clients = 64 << 20, 120
	defer debug.SetGCPercent(debug.SetGCPercent(20)) // collect often, so that garbage hardly counts
	s, _, address := serveTest(t, &Options{Secret: strangersSecret, Memory: memory, MaxMessage: 16 << 20, IdleTimeout: 5 * time.Second})
	with, token := withToken(t, strangersSecret, Read)
	whole := append(binary.BigEndian.AppendUint32([]byte{0}, maxRequest), bytes.Repeat([]byte{0x1a, 0}, maxRequest/2)...)
	for name, message := range map[string][]byte{"whole": whole, "cut": whole[:len(whole)-1]} {
		var all sync.WaitGroup
		took := peak(func() {
			for range clients {
				c := rawFrom(t, "127.0.0.1", address)
				stream, err := c.begin("GetFlightInfo", "authorization", "Bearer "+token)
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					defer c.Close() //nolint:errcheck // otherwise, unread data stays in memory
					_ = c.SetDeadline(time.Now().Add(3 * time.Second))
					for rest := message; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
						if c.framer.WriteData(stream, name == "whole" && len(rest) <= 16<<10, rest[:min(len(rest), 16<<10)]) != nil {
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
				servedSoon(with, t, "127.0.0.2", address)
				time.Sleep(100 * time.Millisecond)
			}
			all.Wait()
		})
		t.Logf("%s: %d MiB at most", name, took>>20)
		if took > 3*memory {
			t.Errorf("%d requests, %s, use %d MiB", clients, name, took>>20)
		}
		waitFor(t, "memory is not given back", func() bool { runtime.GC(); return s.memory.used.Load() < 1<<20 })
	}
}

// A caller without an end function is refused at its limit. Other callers replace older ones.
func TestPlaces(t *testing.T) {
	p := NewHostLimit(8, 4)
	for i := range 6 {
		if _, ok := p.Acquire(fmt.Sprintf("127.0.0.1:%d", i), nil); ok != (i < 4) {
			t.Errorf("the place %d: %v", i, ok)
		}
	}
	var ended []int
	for i := range 6 {
		if _, ok := p.Acquire(fmt.Sprintf("[2001:db8::%d]:1", i), func() { ended = append(ended, i) }); !ok { // one host
			t.Errorf("the place %d", i)
		}
	}
	if leave, ok := p.Acquire("127.0.0.3:1", nil); !ok || fmt.Sprint(ended) != "[0 1 2]" || len(p.holders) != 8 {
		t.Error(ended, len(p.holders), ok)
	} else if leave(); len(p.holders) != 7 {
		t.Error(len(p.holders))
	}
}
