package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/internal/testutil/must"
)

// converse sends bytes to a server over an open connection, waits until the server has closed the
// connection, and checks that the server has released all memory.
func converse(t testing.TB, store partd.Partd, data []byte) {
	s := must.Get(NewServer(store, &ServerOptions{
		Memory: 4 << 20, MaxMessage: 1 << 20, AllowClose: true,
		HandshakeTimeout: 5 * time.Second, StallTimeout: 5 * time.Second,
	}))(t)
	ours, theirs := net.Pipe()
	c := newConn(s, theirs, s.lastID.Add(1))
	ended := make(chan struct{})
	go func() { c.run(); close(ended) }()
	drained := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, ours); close(drained) }()
	// A pipe has no buffer, so everything written has been read.
	_, _ = ours.Write(joinBytes(greeting(), ready("DEALER"), data)) // the server may close it
	_ = ours.Close()
	<-ended
	<-drained
	must.Do(t, s.Shutdown(context.Background()))
	if used := s.memoryUsed(); used != 0 || s.pops.keptBytes != 0 {
		t.Fatalf("%d bytes of memory and %d bytes of popped values were not released", used, s.pops.keptBytes)
	}
}

func requestFrame(r request, body []byte) []byte {
	return message(string(r.append(nil)) + string(body))
}

func FuzzConversation(f *testing.F) {
	f.Add(joinBytes(message("append", "k", "v"), message("get", "k", "x"), message("drop")))
	f.Add(joinBytes(message("iset", "k", "v"), message("delete", "k"), message("close")))
	f.Add(joinBytes(requestFrame(request{op: opSession, number: 1}, make([]byte, 24)), requestFrame(request{op: opScan, number: 2}, []byte{0, 0, 0, 0, 1, 0, 0, 0})))
	f.Fuzz(func(t *testing.T, data []byte) { converse(t, partd.NewDict(), data) })
}

// FuzzRequest sends a request with an arbitrary header and body among valid requests.
func FuzzRequest(f *testing.F) {
	entries := newBuilder()
	entries.appendEntries([]partd.Entry{{Key: "k", Value: []byte("v")}, {Key: "", Value: nil}})
	for op := operation(0); op <= lastOperation+1; op++ {
		f.Add(uint8(op), uint8(0), uint64(1), uint64(1), entries.body()[0])
		f.Add(uint8(op), uint8(0), uint64(0), uint64(0), appendKeys(nil, []string{"k", "large"}))
	}
	f.Fuzz(func(t *testing.T, op, flags uint8, session, seq uint64, body []byte) {
		store := partd.NewDict()
		must.Do(t, store.Append(context.Background(), partd.Entry{Key: "k", Value: []byte("v")}, partd.Entry{Key: "large", Value: make([]byte, 300_000)}))
		r := request{op: operation(op), flags: flags, number: 7, session: session, seq: seq}
		converse(t, store, joinBytes(
			requestFrame(request{op: opHello, number: 1}, append([]byte{2, 0, 2, 0, 0, 0, 1, 0}, make([]byte, 8+16+4+4)...)),
			requestFrame(request{op: opSession, number: 2}, make([]byte, 24)),
			requestFrame(request{op: opScan, number: 3}, []byte{0, 0, 0, 0, 1, 0, 0, 0}),
			requestFrame(r, body),
			requestFrame(request{op: opNext, number: 8}, append(binary.LittleEndian.AppendUint64(nil, 1), 1, 0, 0, 0, 0, 0, 0, 0)),
			requestFrame(r, body),
		))
	})
}

// serveFixedReply answers every request with the same reply.
func serveFixedReply(nc net.Conn, status, flags uint8, body []byte) {
	defer nc.Close()
	buffered, err := zmtp.Open(nc, zmtp.Router, time.Second)
	if err != nil {
		return
	}
	r := zmtp.NewReader(nc, buffered, zmtp.ReaderOptions{MaxMessage: 1 << 20, MaxFrames: 10})
	for {
		frames, err := r.Next()
		if err != nil {
			return
		}
		q, _, err := parseRequest(frames[0])
		if err != nil {
			return
		}
		answer := reply{op: q.op, number: q.number}
		b := body
		le := binary.LittleEndian
		switch q.op {
		case opHello:
			b = le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, protocolVersion), 0), 5)
			b = le.AppendUint32(le.AppendUint32(le.AppendUint64(b, 1<<20), 64<<10), 4)
		case opSession:
			b = append(le.AppendUint64(nil, 9), make([]byte, 1+16)...)
		default:
			answer.status, answer.flags = status, flags
		}
		if _, err := nc.Write(message(string(answer.append(nil)) + string(b))); err != nil {
			return
		}
	}
}

// FuzzReply sends arbitrary replies to a client, which must neither hang nor allocate more than they contain.
func FuzzReply(f *testing.F) {
	f.Add(uint8(1), uint8(0), appendError(nil, &partd.CorruptError{Path: "p", Offset: 3, Err: errors.New("x")}))
	f.Add(uint8(1), uint8(0), appendError(nil, fmt.Errorf("session: %w", partd.ErrSessionGap)))
	f.Add(uint8(1), uint8(0), appendError(nil, partd.ErrSessionExpired))
	f.Add(uint8(0), uint8(0), []byte{1, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c'})
	f.Add(uint8(0), uint8(1), []byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(0), uint8(1), make([]byte, 8))
	f.Add(uint8(0), uint8(1), append([]byte{1}, make([]byte, 40)...))
	f.Fuzz(func(t *testing.T, status, flags uint8, body []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		c := must.Get(newClient("tcp://pipe:1", &ClientOptions{RetryFor: time.Millisecond}))(t)
		c.dial = func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go serveFixedReply(newQueued(theirs), status, flags, body)
			return newQueued(ours), nil
		}
		must.Do(t, c.begin(context.Background()))
		defer c.Close()
		if values, err := c.Get(ctx, "a"); err == nil && len(values) != 1 {
			t.Fatalf("Get of one key returned %d values", len(values))
		}
		_, _ = c.Pop(ctx, "a")
		_ = c.Append(ctx, partd.Entry{Key: "a", Value: []byte("b")})
		_, _ = c.Stat(ctx)
		if r, err := c.Open(ctx, "a"); err == nil {
			_, _ = io.CopyN(io.Discard, r, 1<<20)
			_ = r.Close()
		}
		n := 0
		for _, err := range c.Keys(ctx) {
			if n++; err != nil || n > 1000 {
				break
			}
		}
		for _, err := range c.Scan(ctx) {
			if n++; err != nil || n > 2000 {
				break
			}
		}
	})
}
