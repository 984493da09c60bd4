package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// memoryUsed returns the memory that all connections hold.
func (s *Server) memoryUsed() int64 {
	s.quotas.mu.Lock()
	defer s.quotas.mu.Unlock()
	return s.quotas.used[memory]
}

// takeAll takes all memory of a server until the returned function is called.
func takeAll(t *testing.T, s *Server) (giveBack func()) {
	a := s.quotas.open(s.quotas.enter("another"), time.Minute, func() {})
	must(t, a.take(t.Context(), s.opts.Memory, finish))
	return func() { a.give(s.opts.Memory) }
}

// TestLargeChanges sends changes over the message limit in parts, all or nothing, and
// checks that changes over the server's memory are refused.
func TestLargeChanges(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	s, url := serve(t, store, &ServerOptions{Memory: 10 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, nil)
	value := make([]byte, 3<<20)
	for i := range value {
		value[i] = byte(i * 7 >> 3)
	}
	var small []partd.Entry
	for i := range 20_000 {
		small = append(small, partd.Entry{Key: fmt.Sprint("k", i), Value: value[i : i+50]})
	}
	must(t, c.Append(ctx, append(small, partd.Entry{Key: "large", Value: value})...))
	must(t, c.Set(ctx, "set", value))
	for range 3 {
		if err := c.Append(ctx, entry("x", "1"), partd.Entry{Key: "large", Value: make([]byte, 6<<20)}); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("an append larger than the server's memory: %v", err)
		}
	}
	must(t, c.Append(ctx, entry("large", "end")))
	v, err := c.Get(ctx, "k0", "large", "k19999", "set", "x")
	must(t, err)
	if !bytes.Equal(v[0], value[:50]) || !bytes.Equal(v[1], append(bytes.Clone(value), "end"...)) ||
		!bytes.Equal(v[2], value[19999:20049]) || !bytes.Equal(v[3], value) || len(v[4]) > 0 {
		t.Error("the values differ from what was appended")
	}
	must(t, c.Close())
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		used := s.memoryUsed()
		if used == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d bytes of the budget were not released", used)
		}
	}
}

// TestLargeValues reads values of many pages, from stores with and without streaming.
func TestLargeValues(t *testing.T) {
	ctx := context.Background()
	value := make([]byte, 2*defaultPage+12345)
	for i := range value {
		value[i] = byte(i >> 4)
	}
	for _, name := range []string{"dict", "file"} {
		t.Run(name, func(t *testing.T) {
			_, url := serve(t, stores[name](t), nil)
			c := dial(t, url, nil)
			must(t, c.Append(ctx, partd.Entry{Key: "large", Value: value}, entry("small", "s")))
			v, err := c.Get(ctx, "small", "large", "none", "large", "small")
			must(t, err)
			if string(v[0]) != "s" || !bytes.Equal(v[1], value) || len(v[2]) > 0 || !bytes.Equal(v[3], value) || string(v[4]) != "s" {
				t.Error("get: the values differ from what was appended")
			}
			r, err := c.Open(ctx, "large")
			must(t, err)
			got, err := io.ReadAll(r)
			if must(t, err); !bytes.Equal(got, value) {
				t.Error("open: the value differs from what was appended")
			}
			must(t, r.Close())
			// Readers that are left open or closed early are eventually closed.
			for i := range maxHandles + 6 {
				r, err := c.Open(ctx, "large")
				if err != nil {
					t.Fatalf("reader %d: %v", i, err)
				}
				must(t, r.Close())
			}
			var open []io.Closer
			for err = nil; err == nil && len(open) <= maxHandles; {
				var r io.ReadCloser
				if r, err = c.Open(ctx, "large"); err == nil {
					open = append(open, r)
				}
			}
			if !errors.Is(err, ErrBusy) {
				t.Errorf("after %d readers: %v", len(open), err)
			}
			for _, r := range open {
				must(t, r.Close())
			}
			v, err = c.Pop(ctx, "large", "none", "small")
			if must(t, err); !bytes.Equal(v[0], value) || len(v[1]) > 0 || string(v[2]) != "s" {
				t.Error("pop: the values differ from what was appended")
			}
			if v, err = c.Get(ctx, "large"); err != nil || len(v[0]) > 0 {
				t.Errorf("after pop: %d bytes, %v", len(v[0]), err)
			}
		})
	}
}

// TestLongListings lists and scans many pages, and stops some early.
func TestLongListings(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	want := map[string]int{}
	long := strings.Repeat("k", 60_000)
	for i := range 300 {
		key := fmt.Sprint(i, long)
		want[key] = i + 1
		must(t, store.Append(ctx, partd.Entry{Key: key, Value: make([]byte, i+1)}))
	}
	_, url := serve(t, store, nil)
	c := dial(t, url, nil)
	keys := map[string]int{}
	for k, err := range c.Keys(ctx) {
		must(t, err)
		keys[k.Key] = int(k.Size)
	}
	scanned := map[string]int{}
	for k, err := range c.Scan(ctx) {
		must(t, err)
		scanned[k.Key] += len(k.Data)
	}
	for key, n := range want {
		if keys[key] != n || scanned[key] != n {
			t.Fatalf("key %s has %d bytes in Keys and %d in Scan, want %d", partd.QuoteKey(key), keys[key], scanned[key], n)
		}
	}
	if len(keys) != len(want) || len(scanned) != len(want) {
		t.Errorf("%d keys and %d scanned, want %d", len(keys), len(scanned), len(want))
	}
	for range maxHandles + 6 {
		for _, err := range c.Keys(ctx) {
			must(t, err)
			break
		}
	}
	// A broken connection ends a listing with an error, and affects nothing else.
	p := newProxy(t, url, noLimit)
	broken := dial(t, p.url(), nil)
	n := 0
	var last error
	for _, err := range broken.Keys(ctx) {
		if n++; n == 1 {
			p.cut()
		}
		last = err
	}
	if !errors.Is(last, ErrLost) || errors.Is(last, io.EOF) || n == len(want) {
		t.Errorf("a listing over a broken connection ended after %d keys with %v", n, last)
	}
	if _, err := broken.Stat(ctx); err != nil {
		t.Errorf("after the broken connection: %v", err)
	}
}

// TestManySmallThings sends requests whose decoded form would need many times their
// length. They are refused without effect.
func TestManySmallThings(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	s, url := serve(t, store, &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, nil)
	for op, size := range map[operation]int{opGet: 2, opDelete: 2, opAppend: entryHeaderLen} {
		k := newCall(op)
		n := 900_000 / size
		k.u32(uint32(n))
		k.appendData(make([]byte, n*size))
		if err := c.do(ctx, k); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("%s of %d empty items: %v", op, n, err)
		}
	}
	must(t, c.Append(ctx, entry("k", "v")))
	must(t, c.Close())
	if used := s.memoryUsed(); used > 3<<20 {
		t.Errorf("%d bytes of the budget are in use", used)
	}
}

// TestLengthOfUpload refuses a part that claims another length than the first part,
// because memory was reserved for the first length.
func TestLengthOfUpload(t *testing.T) {
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
	ours, theirs := net.Pipe()
	c := newConn(s, theirs, 1)
	must(t, c.upload.add(c, 1, 2, 0, []byte("a")))
	if err := c.upload.add(c, 1, 1<<20, 1, make([]byte, 1<<20-1)); !errors.Is(err, ErrBadRequest) {
		t.Errorf("%v, and the upload has %d bytes with %d charged", err, len(c.upload.body), s.memoryUsed())
	}
	must(t, c.upload.add(c, 2, 2, 0, []byte("ab"))) // another upload begins
	c.upload.drop(c)
	c.abort()
	must(t, ours.Close())
	must(t, s.Shutdown(t.Context()))
}
