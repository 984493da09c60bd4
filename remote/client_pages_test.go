package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

func (s *Server) memoryUsed() int64 {
	s.quotas.mu.Lock()
	defer s.quotas.mu.Unlock()
	return s.quotas.used[memory]
}

// takeAll takes all memory of a server. The returned function gives it back.
func takeAll(t *testing.T, s *Server) (giveBack func()) {
	a := s.quotas.open(s.quotas.enter("another"), time.Minute, func() {})
	must(t, a.take(t.Context(), s.opts.Memory, finish))
	return func() { a.give(s.opts.Memory) }
}

// TestLargeChanges checks that changes over the message limit are sent in parts and applied
// atomically, and that changes that exceed the server's memory are refused.
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
			t.Errorf("Append of more than the server's memory = %v, want ErrTooLarge", err)
		}
	}
	must(t, c.Append(ctx, entry("large", "end")))
	v, err := c.Get(ctx, "k0", "large", "k19999", "set", "x")
	must(t, err)
	if !bytes.Equal(v[0], value[:50]) || !bytes.Equal(v[1], append(bytes.Clone(value), "end"...)) ||
		!bytes.Equal(v[2], value[19999:20049]) || !bytes.Equal(v[3], value) || len(v[4]) > 0 {
		t.Error("the values differ from the appended ones")
	}
	must(t, c.Close())
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		used := s.memoryUsed()
		if used == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d bytes of memory were not released within 10 s", used)
		}
	}
}

// TestLargeValues checks that values of many pages arrive complete, from stores with and without streaming.
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
				t.Error("Get: the values differ from the appended ones")
			}
			r, err := c.Open(ctx, "large")
			must(t, err)
			got, err := io.ReadAll(r)
			if must(t, err); !bytes.Equal(got, value) {
				t.Error("Open: the value differs from the appended one")
			}
			must(t, r.Close())
			// The server closes readers that the client closes early, and limits the number of open ones.
			for i := range maxHandles + 6 {
				r, err := c.Open(ctx, "large")
				if err != nil {
					t.Fatalf("Open of reader %d: %v", i, err)
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
				t.Errorf("Open with %d open readers = %v, want ErrBusy", len(open), err)
			}
			for _, r := range open {
				must(t, r.Close())
			}
			v, err = c.Pop(ctx, "large", "none", "small")
			if must(t, err); !bytes.Equal(v[0], value) || len(v[1]) > 0 || string(v[2]) != "s" {
				t.Error("Pop: the values differ from the appended ones")
			}
			if v, err = c.Get(ctx, "large"); err != nil || len(v[0]) > 0 {
				t.Errorf("Get after Pop = %d bytes, %v, want none", len(v[0]), err)
			}
		})
	}
}

// TestLongListings checks that listings and scans of many pages are complete, and that a listing may stop early.
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
			t.Fatalf("key %s has %d bytes in Keys and %d in Scan, want %d", storekit.QuoteKey(key), keys[key], scanned[key], n)
		}
	}
	if len(keys) != len(want) || len(scanned) != len(want) {
		t.Errorf("Keys yielded %d keys and Scan %d, want %d", len(keys), len(scanned), len(want))
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
	var lastErr error
	for _, err := range broken.Keys(ctx) {
		if n++; n == 1 {
			p.cut()
		}
		lastErr = err
	}
	if !errors.Is(lastErr, ErrLost) || errors.Is(lastErr, io.EOF) || n == len(want) {
		t.Errorf("Keys over a broken connection ended after %d items with %v, want ErrLost", n, lastErr)
	}
	if _, err := broken.Stat(ctx); err != nil {
		t.Errorf("Stat after the connection broke: %v", err)
	}
}

// TestManyTinyItems checks that requests are refused if their decoded form would need many times their length.
func TestManyTinyItems(t *testing.T) {
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
			t.Errorf("%s of %d empty items = %v, want ErrTooLarge", op, n, err)
		}
	}
	must(t, c.Append(ctx, entry("k", "v")))
	must(t, c.Close())
	if used := s.memoryUsed(); used > 3<<20 {
		t.Errorf("%d bytes of memory are in use, want at most 3 MiB", used)
	}
}

// TestUploadLengthChanges checks that a part is refused if it claims another length of the upload
// than the first part, because the server has reserved memory for the first length. A part must also
// follow the previous part.
func TestUploadLengthChanges(t *testing.T) {
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
	ours, theirs := net.Pipe()
	c := newConn(s, theirs, 1)
	must(t, c.upload.add(c, 1, 2, 0, []byte("a")))
	if err := c.upload.add(c, 1, 1<<20, 1, make([]byte, 1<<20-1)); !errors.Is(err, ErrBadRequest) {
		t.Errorf("add with another length = %v, want ErrBadRequest; the upload has %d bytes with %d charged", err, len(c.upload.body), s.memoryUsed())
	}
	must(t, c.upload.add(c, 2, 2, 0, []byte("ab"))) // another upload begins
	must(t, c.upload.add(c, 3, 4, 0, []byte("ab")))
	if err := c.upload.add(c, 3, 4, 3, []byte("d")); !errors.Is(err, ErrBadRequest) {
		t.Errorf("add of a part that leaves a gap = %v, want ErrBadRequest", err)
	}
	c.upload.drop(c)
	c.abort()
	must(t, ours.Close())
	must(t, s.Shutdown(t.Context()))
}

// TestGetStartsAgain checks that Get starts again if its connection breaks after a part of a large value.
func TestGetStartsAgain(t *testing.T) {
	ctx := t.Context()
	store := partd.NewDict()
	value := bytes.Repeat([]byte("value"), defaultPage/2)
	must(t, store.Append(ctx, partd.Entry{Key: "k", Value: value}))
	_, url := serve(t, store, nil)
	var connections atomic.Int64
	p := newProxy(t, url, func() int64 {
		if connections.Add(1) == 1 {
			return defaultPage * 3 / 2
		}
		return noLimit()
	})
	values, err := dial(t, p.url(), nil).Get(ctx, "k")
	if must(t, err); !bytes.Equal(values[0], value) || p.cuts.Load() == 0 {
		t.Errorf("Get = %d bytes after %d broken connections, want %d bytes after one", len(values[0]), p.cuts.Load(), len(value))
	}
}
