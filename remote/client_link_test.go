package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shards"
)

// TestLargestValue checks that by default a value of 256 MiB fits into a message, even with the longest key,
// and that the server holds no memory for the message once it is applied.
func TestLargestValue(t *testing.T) {
	s, c := serveClient(t, partd.NewDict(), nil)
	key, value := strings.Repeat("k", partd.MaxKeyLen), bytes.Repeat([]byte("a large value, "), 256<<20/15+1)[:256<<20]
	must.Do(t, c.Append(ctx, partd.Entry{Key: key, Value: value}))
	must.Do(t, c.Append(ctx, entry("k", "v")))
	if used := s.memoryUsed(); used > 2<<20 {
		t.Errorf("the server still holds %d bytes, want at most 2 MiB", used)
	}
	r := must.Get(c.Open(ctx, key))(t)
	defer r.Close()
	buf := make([]byte, 1<<20)
	for rest := value; len(rest) > 0; rest = rest[len(buf):] {
		if _, err := io.ReadFull(r, buf); err != nil || !bytes.Equal(buf, rest[:len(buf)]) {
			t.Fatalf("the value differs, or cannot be read, %d bytes before its end: %v", len(rest), err)
		}
	}
	if n, err := r.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("after 256 MiB, Read returned %d bytes and %v, want io.EOF", n, err)
	}
}

// TestTooLargeChanges checks that the client refuses a change that exceeds the server's message limit. It
// applies nothing of it, and the next change succeeds. A message of exactly the limit is accepted.
func TestTooLargeChanges(t *testing.T) {
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{Memory: 10 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, &ClientOptions{RetryFor: time.Second})
	largest := bytes.Repeat([]byte("v"), 1<<20+messageOverhead-headerSpace-4-entryHeaderLen-1)
	must.Do(t, c.Append(ctx, partd.Entry{Key: "l", Value: largest}))
	session := must.Get(c.NewSession(ctx))(t)
	tooLarge := partd.Entry{Key: "x", Value: append(largest, 'v')}
	for name, change := range map[string]func() error{
		"append":       func() error { return c.Append(ctx, tooLarge) },
		"append batch": func() error { return c.Append(ctx, entry("x", "1"), partd.Entry{Key: "l", Value: largest}) },
		"set":          func() error { return c.Set(ctx, tooLarge.Key, tooLarge.Value) },
		"apply": func() error {
			_, err := c.Apply(ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{tooLarge}})
			return err
		},
	} {
		if err := change(); !errors.Is(err, partd.ErrTooLarge) || !strings.Contains(err.Error(), "the server accepts at most 1179648: split the operation") {
			t.Errorf("%s = %v, want ErrTooLarge with the limit", name, err)
		}
	}
	must.Do(t, c.Append(ctx, entry("l", "end")))
	if v := must.Get(store.Get(ctx, "l", "x"))(t); !bytes.Equal(v[0], append(largest, "end"...)) || len(v[1]) > 0 {
		t.Errorf("the values have %d and %d bytes, want %d and 0", len(v[0]), len(v[1]), len(largest)+3)
	}
}

// TestSmallMessages checks that a copy, a Buffer and Shards send batches that a server with the lowest message limit
// accepts.
func TestSmallMessages(t *testing.T) {
	source := partd.NewDict()
	for i := range 200 {
		must.Do(t, source.Append(ctx, partd.Entry{Key: fmt.Sprint("key", i), Value: bytes.Repeat([]byte{byte(i)}, 10_000)}))
	}
	long := strings.Repeat("k", partd.MaxKeyLen-1)
	for i := range 3 {
		must.Do(t, source.Append(ctx, partd.Entry{Key: fmt.Sprint(long, i), Value: bytes.Repeat([]byte("v"), 300_000)}))
	}
	open := func() *Client {
		_, url := serve(t, partd.NewDict(), &ServerOptions{MaxMessage: minMessage})
		return dial(t, url, nil)
	}
	buffer := must.Get(partd.NewBuffer(partd.NewDict(), open(), &partd.BufferOptions{Memory: 64 << 20}))(t)
	sharded := must.Get(shards.New([]string{"a", "b"}, []partd.Partd{open(), open()}))(t)
	for name, target := range map[string]partd.Partd{"client": open(), "buffer": buffer, "shards": sharded} {
		if _, err := partd.Copy(ctx, target, source, nil); err != nil {
			t.Errorf("Copy to the %s = %v", name, err)
		}
	}
	value := bytes.Repeat([]byte("v"), 50_000)
	for i := range 100 { // more than a message, for each of two keys and for all others together
		must.Do(t, buffer.Append(ctx, partd.Entry{Key: long, Value: value}, partd.Entry{Key: "short", Value: value}, partd.Entry{Key: fmt.Sprint("other", i), Value: value}))
	}
	must.Do(t, buffer.Flush(ctx))
	v := must.Get(buffer.Unwrap().Get(ctx, long, "short", "other99"))(t)
	if len(v[0]) != 100*len(value) || len(v[1]) != 100*len(value) || len(v[2]) != len(value) {
		t.Errorf("the values have %d, %d and %d bytes, want %d, %d and %d", len(v[0]), len(v[1]), len(v[2]), 100*len(value), 100*len(value), len(value))
	}
}

// TestRepliesToChanges checks a client's session, numbers and errors after changes that failed.
func TestRepliesToChanges(t *testing.T) {
	newClient := func(changes int) (*callTable, []*call) {
		c := &callTable{unanswered: map[uint64]*call{}}
		c.ops.session, c.ops.next, c.ops.unanswered = 1, uint64(changes+1), changes
		calls := make([]*call, changes)
		for i := range calls {
			req := newCall(opAppend)
			req.isNumbered, req.session, req.seq, req.sendCount = true, 1, uint64(i+1), 1
			c.register(req)
			calls[i] = req
		}
		return c, calls
	}
	c, calls := newClient(3)
	for _, req := range calls {
		c.settle(req, syscall.ENOSPC)
	}
	if c.ops.next != 1 || c.ops.session != 1 {
		t.Errorf("after three failures, the next change has the number %d in session %d, want 1 in 1", c.ops.next, c.ops.session)
	}
	c, calls = newClient(1)
	c.settle(calls[0], partd.ErrUnknownOutcome)
	if c.ops.session != 0 {
		t.Error("the client uses its session after a change of unknown outcome")
	}
	c, calls = newClient(1)
	calls[0].sendCount = 2
	c.settle(calls[0], partd.ErrSessionExpired)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) || calls[0].mustRenumber {
		t.Errorf("a change that was sent twice and found its session expired: error %v, want ErrUnknownOutcome", calls[0].err)
	}
	c, calls = newClient(1)
	c.failAll(syscall.ECONNREFUSED)
	if !errors.Is(calls[0].err, partd.ErrUnknownOutcome) {
		t.Errorf("a change that was sent before the client gave up: error %v, want ErrUnknownOutcome", calls[0].err)
	}
}
