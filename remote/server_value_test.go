package remote

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// pipedConn returns a connection of the server that no peer uses.
func pipedConn(t *testing.T, s *Server) *conn {
	nc, peer := net.Pipe()
	c := newConn(s, nc, 1)
	t.Cleanup(func() {
		c.discard()
		_ = peer.Close()
	})
	return c
}

// TestReusedAnswerBuffers checks that Get returns the right values of all sizes, though answers reuse buffers.
func TestReusedAnswerBuffers(t *testing.T) {
	d := partd.NewDict()
	_, c := serveClient(t, d, nil)
	sizes := []int{1 << 20, 0, 1, 4 << 10, 64<<10 - 1, 64 << 10, 300_000, 1<<20 + 1, defaultPage - 1, defaultPage, defaultPage + 1}
	keys := make([]string, len(sizes))
	want := make([][]byte, len(sizes))
	for i, n := range sizes {
		keys[i], want[i] = fmt.Sprint(n), bytes.Repeat([]byte{byte('a' + i)}, n)
		must.Do(t, c.Append(t.Context(), partd.Entry{Key: keys[i], Value: want[i]}))
	}
	check := func(keys []string, want [][]byte) {
		t.Helper()
		got := must.Get(c.Get(t.Context(), keys...))(t)
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("Get of %s returned %d wrong bytes", keys[i], len(got[i]))
			}
		}
	}
	for range 2 {
		check(keys, want)
		for i := range keys {
			check(keys[i:i+1], want[i:i+1])
		}
	}
}

// TestLongValuesAreNotCopied checks that copyValue allocates nothing for a value that is longer than a page.
func TestLongValuesAreNotCopied(t *testing.T) {
	d := partd.NewDict()
	must.Do(t, d.Append(context.Background(), partd.Entry{Key: "k", Value: make([]byte, 100_000)}))
	a := &allowance{}
	for _, size := range []int{16, 200_000} {
		if v, ok, err := copyValue(t.Context(), d, "k", make([]byte, 8, size), 99_999, a); ok || err != nil || v.buf != nil {
			t.Errorf("copyValue beyond the limit into %d bytes = %v, %v with %d bytes, want false", size, ok, err, len(v.buf))
		}
	}
	v, ok, err := copyValue(t.Context(), d, "k", make([]byte, 8, 200_000), 100_000, a)
	if !ok || err != nil || len(v.data) != 100_000 || len(v.buf) != 100_008 {
		t.Errorf("copyValue = %v, %v with %d bytes after %d, want 100000 after 8", ok, err, len(v.data), len(v.buf)-len(v.data))
	}
}

// TestValuesOfAnswersAreCharged checks that the values of an answer count as memory in use until it is
// written, even if they are not in its buffer, and that the buffer does not grow too large to be reused.
func TestValuesOfAnswersAreCharged(t *testing.T) {
	const size, count = 1<<20 + 1<<16, 3
	d := partd.NewDict()
	s, _ := serve(t, d, nil)
	c := pipedConn(t, s)
	c.pageSize = defaultPage
	keys := make([]string, count)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
		must.Do(t, d.Append(t.Context(), partd.Entry{Key: keys[i], Value: make([]byte, size)}))
	}
	_ = newBuilder()
	unused := builder{buf: make([]byte, 0, maxPooledBuffer)}
	unused.recycle()
	a := c.newAnswer()
	defer a.drop()
	a.minFirstRaise = 0 // reserve nothing in advance
	f := must.Get(c.get(request{}, &decoder{b: appendKeys(nil, keys)}))(t)
	must.Do(t, f(a))
	for _, when := range []string{"before", "while"} {
		if a.size() < count*size || s.memoryUsed() < count*size-freeBytes || cap(a.buf) > maxPooledBuffer {
			t.Errorf("%s it is written, an answer of %d bytes has %d bytes charged and a buffer of %d, want at least %d, %d and at most %d",
				when, a.size(), s.memoryUsed(), cap(a.buf), count*size, count*size-freeBytes, maxPooledBuffer)
		}
		a.parts(reply{})
	}
}

// TestCopiedValuesAreCharged checks that a value that is copied into a buffer counts as memory in use, also while the
// buffer grows: the old and the new buffer exist at the same time.
func TestCopiedValuesAreCharged(t *testing.T) {
	d := partd.NewDict()
	s, _ := serve(t, d, nil)
	c := pipedConn(t, s)
	for _, size := range []int{70_000, 250_000, maxPooledBuffer - 100} {
		key := fmt.Sprint(size)
		must.Do(t, d.Append(t.Context(), partd.Entry{Key: key, Value: make([]byte, size)}))
		before := s.memoryUsed()
		a := c.newAllowance()
		buf := make([]byte, 8, 20_000)
		v, ok, err := copyValue(t.Context(), d, key, buf, defaultPage, a)
		if !ok || err != nil || len(v.data) != size {
			t.Errorf("copyValue = %v, %v with %d bytes, want %d", ok, err, len(v.data), size)
		}
		if n, want := s.memoryUsed()-before, int64(cap(v.buf)+cap(buf)); n < want-freeBytes {
			t.Errorf("copyValue charges %d bytes for buffers of %d bytes", n, want)
		}
		a.release()
		if n := s.memoryUsed(); n != before {
			t.Errorf("after the release, %d bytes are charged, want %d", n, before)
		}
	}
}

// TestAnswerBuffersAreCharged checks that the size of a large buffer that an answer reuses counts as memory
// in use, and that answers do not reuse large buffers while memory is short.
func TestAnswerBuffersAreCharged(t *testing.T) {
	s, _ := serve(t, partd.NewDict(), nil)
	c := pipedConn(t, s)
	large := 0
	for i := range 200 {
		s.budget.inUse.Store(int64((i+1)%2) * s.opts.Memory)
		_ = newBuilder() // removes the last answer's buffer from the pool, so that newAnswer does not get it
		unused := builder{buf: make([]byte, 0, 1<<20)}
		unused.recycle()
		a := c.newAnswer()
		if cap(a.buf) > freeBytes {
			large++
			if s.memoryUsed() < int64(cap(a.buf)-freeBytes) {
				t.Fatalf("an answer has a buffer of %d bytes, but only %d bytes are charged", cap(a.buf), s.memoryUsed())
			}
		}
		if i%2 == 0 && cap(a.buf) > freeBytes {
			t.Fatalf("with little memory, an empty answer has a buffer of %d bytes, want at most %d", cap(a.buf), freeBytes)
		}
		a.drop()
	}
	if large == 0 {
		t.Error("no answer reused a large buffer, want at least one")
	}
}
