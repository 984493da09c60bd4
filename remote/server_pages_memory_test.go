package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
)

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
