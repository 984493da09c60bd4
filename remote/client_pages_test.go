package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/storekit"
)

// TestLargeValues checks that values of many pages arrive complete, from stores with and without streaming.
func TestLargeValues(t *testing.T) {
	value := make([]byte, 2*defaultPage+12345)
	for i := range value {
		value[i] = byte(i >> 4)
	}
	for _, name := range []string{"dict", "file"} {
		t.Run(name, func(t *testing.T) {
			_, c := serveClient(t, stores[name](t), nil)
			must.Do(t, c.Append(ctx, partd.Entry{Key: "large", Value: value}, entry("small", "s")))
			v := must.Get(c.Get(ctx, "small", "large", "none", "large", "small"))(t)
			if string(v[0]) != "s" || !bytes.Equal(v[1], value) || len(v[2]) > 0 || !bytes.Equal(v[3], value) || string(v[4]) != "s" {
				t.Error("Get: the values differ from the appended ones")
			}
			r := must.Get(c.Open(ctx, "large"))(t)
			if got := must.Get(io.ReadAll(r))(t); !bytes.Equal(got, value) {
				t.Error("Open: the value differs from the appended one")
			}
			must.Do(t, r.Close())
			// The server closes readers that the client closes early, and limits the number of open ones.
			for i := range maxHandles + 6 {
				r, err := c.Open(ctx, "large")
				if err != nil {
					t.Fatalf("Open of reader %d: %v", i, err)
				}
				must.Do(t, r.Close())
			}
			var open []io.Closer
			var err error
			for err == nil && len(open) <= maxHandles {
				var r io.ReadCloser
				if r, err = c.Open(ctx, "large"); err == nil {
					open = append(open, r)
				}
			}
			must.Fail(t, err, ErrBusy, "Open with %d open readers", len(open))
			for _, r := range open {
				must.Do(t, r.Close())
			}
			v = must.Get(c.Pop(ctx, "large", "none", "small"))(t)
			if !bytes.Equal(v[0], value) || len(v[1]) > 0 || string(v[2]) != "s" {
				t.Error("Pop: the values differ from the appended ones")
			}
			wantValue(t, c, "large", "")
		})
	}
}

// TestLongListings checks that listings and scans of many pages are complete with 8 MiB, partd-server's minimum for
// messages, and that a listing may stop early.
func TestLongListings(t *testing.T) {
	store := partd.NewDict()
	want := map[string]int{}
	long := strings.Repeat("k", 60_000)
	for i := range 300 {
		key := fmt.Sprint(i, long)
		want[key] = 100 * (i + 1)
		must.Do(t, store.Append(ctx, partd.Entry{Key: key, Value: make([]byte, want[key])}))
	}
	_, url := serve(t, store, &ServerOptions{Memory: 8 << 20})
	c := dial(t, url, nil)
	keys := map[string]int{}
	for k, err := range c.Keys(ctx) {
		must.Do(t, err)
		keys[k.Key] = int(k.Size)
	}
	scanned := map[string]int{}
	for k, err := range c.Scan(ctx) {
		must.Do(t, err)
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
			must.Do(t, err)
			break
		}
	}
	// A broken connection ends a listing with an error, and affects nothing else.
	p := newProxy(t, url, nettest.CutNever)
	broken := dial(t, p.URL(), nil)
	n := 0
	var lastErr error
	for _, err := range broken.Keys(ctx) {
		if n++; n == 1 {
			p.Cut()
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

// TestGetStartsAgain checks that Get starts again if its connection breaks after a part of a large value.
func TestGetStartsAgain(t *testing.T) {
	store := partd.NewDict()
	value := bytes.Repeat([]byte("value"), defaultPage/2)
	must.Do(t, store.Append(ctx, partd.Entry{Key: "k", Value: value}))
	_, url := serve(t, store, nil)
	var connections atomic.Int64
	p := newProxy(t, url, func() int64 {
		if connections.Add(1) == 1 {
			return defaultPage * 3 / 2
		}
		return nettest.CutNever()
	})
	if values := must.Get(dial(t, p.URL(), nil).Get(ctx, "k"))(t); !bytes.Equal(values[0], value) || p.Cuts() == 0 {
		t.Errorf("Get = %d bytes after %d broken connections, want %d bytes after one", len(values[0]), p.Cuts(), len(value))
	}
}

// partScanner is a store that can only scan parts.
type partScanner struct{ *partd.Dict }

func (partScanner) Scan(context.Context) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		yield(partd.Chunk{}, errors.New("all keys are scanned, not only a part"))
	}
}

// TestServerScansOnlyThePart checks that the server's store divides its keys, so that only one part is read and
// sent.
func TestServerScansOnlyThePart(t *testing.T) {
	store := partScanner{partd.NewDict()}
	_, url := serve(t, store, nil)
	for i := range 200 {
		must.Do(t, store.Append(ctx, entry(fmt.Sprint("key ", i), "value")))
	}
	c, keys := dial(t, url, nil), 0
	for part := range 4 {
		for chunk, err := range c.ScanPart(ctx, part, 4) {
			if must.Do(t, err); chunk.Last {
				keys++
			}
		}
	}
	if keys != 200 {
		t.Errorf("the four parts have %d keys, want 200", keys)
	}
}

// TestReadersShareLittleMemory checks that several clients, of one peer or of several, finish reading and writing long
// values, although the memory suffices for only two or three readers of compressed values at a time.
func TestReadersShareLittleMemory(t *testing.T) {
	for name, format := range map[string]compress.Format{
		"zstd": compress.Zstd, "lz4, six peers": compress.LZ4,
	} {
		t.Run(name, func(t *testing.T) {
			store := must.Get(compress.New(stores["log"](t), format, nil))(t)
			s, url := serve(t, store, &ServerOptions{Memory: 32 << 20, MaxMessage: 8 << 20})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			errs := make(chan error, 6)
			for i := range cap(errs) {
				var c *Client
				if name == string(format) {
					c = dial(t, url, nil)
				} else {
					c = dialFrom(t, url, fmt.Sprint("127.0.0.", i+2))
				}
				read := func() error {
					key, piece := fmt.Sprint("k", i), bytes.Repeat([]byte{byte(i), 1, 2}, 1<<20)
					for n := range 2 {
						if err := c.Append(ctx, partd.Entry{Key: key, Value: piece}); err != nil {
							return fmt.Errorf("append %d: %w", n, err)
						}
						want := (n + 1) * len(piece)
						if got, err := c.Get(ctx, key); err != nil || len(got[0]) != want {
							return fmt.Errorf("get %d: %v", n, err)
						}
						r, err := c.Open(ctx, key)
						if err != nil {
							return fmt.Errorf("open %d: %w", n, err)
						}
						if got, err := io.Copy(io.Discard, r); err != nil || got != int64(want) {
							return fmt.Errorf("read %d: %d bytes, %v", n, got, err)
						}
						if err := r.Close(); err != nil {
							return err
						}
						bytesScanned := 0
						for chunk, err := range c.Scan(ctx) {
							if err != nil {
								return fmt.Errorf("scan %d: %w", n, err)
							}
							bytesScanned += len(chunk.Data)
						}
						if bytesScanned < want {
							return fmt.Errorf("scan %d: %d bytes, want at least %d", n, bytesScanned, want)
						}
					}
					return nil
				}
				go func() { errs <- read() }()
			}
			for range cap(errs) {
				must.Do(t, <-errs)
			}
			if n := s.meters.evictedConns.Load(); n > 0 {
				t.Errorf("the server closed %d connections, want none", n)
			}
		})
	}
}

// TestPagesAllocateLittle checks that the pages of a scan reuse memory, in the client and the server.
func TestPagesAllocateLittle(t *testing.T) {
	_, c := serveClient(t, partd.NewDict(), nil)
	const pages = 12
	for i := range pages {
		must.Do(t, c.Append(ctx, entry(fmt.Sprint(i), strings.Repeat(fmt.Sprint(i%10), defaultPage))))
	}
	n := leastAllocated(func() {
		for chunk, err := range c.Scan(ctx) {
			must.Do(t, err)
			if want := chunk.Key[len(chunk.Key)-1]; len(chunk.Data) != bytes.Count(chunk.Data, []byte{want}) {
				t.Fatalf("the value of key %s differs from the appended one", chunk.Key)
			}
		}
	})
	if n > pages*defaultPage*3/4 {
		t.Errorf("scanning %d bytes allocates %d bytes, want at most three quarters", pages*defaultPage, n)
	}
}
