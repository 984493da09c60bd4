package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestCanceledScanStopsReading checks that a canceled Scan soon stops, even while it reads much and yields nothing.
func TestCanceledScanStopsReading(t *testing.T) {
	large := bytes.Repeat([]byte("v"), 4<<20)
	smallEntries := func(key func(i int) string) (entries []partd.Entry) {
		for i := range 4 << 10 {
			entries = append(entries, partd.Entry{Key: key(i), Value: large[:1<<10]})
		}
		return entries
	}
	for name, entries := range map[string][]partd.Entry{
		"replaced large value": {{Key: "k", Value: large}},
		"replaced hot key":     smallEntries(func(int) string { return "k" }),
		"keys with one hash":   smallEntries(func(i int) string { return fmt.Sprint("k", i%2) }),
	} {
		t.Run(name, func(t *testing.T) {
			var reads, cancelAt atomic.Int64
			var cancel context.CancelFunc
			h := scanHooks(vfstest.NewMem())
			h.tableBytes, h.readBytes, h.blobBytes, h.scanWorkers = 8<<20, 16<<10, 64<<10, 1
			h.hash = func(string) uint64 { return 1 << 40 }
			h.fs = vfstest.Inject(h.fs, func(op vfstest.Op, _ string) error {
				if op == vfstest.OpRead && reads.Add(1) == cancelAt.Load() {
					cancel()
				}
				return nil
			})
			s := openWith(t, "/s", nil, h)
			defer s.Close()
			must.Do(t, errors.Join(s.Append(t.Context(), entries...), s.Flush(t.Context()), s.Set(t.Context(), "k", []byte("new")), s.Flush(t.Context())))
			scan := func() (n int64, err error) {
				var ctx context.Context
				ctx, cancel = context.WithCancel(t.Context())
				defer cancel()
				reads.Store(0)
				_, err = collectParts(s.Scan(ctx))
				return reads.Load(), err
			}
			total, err := scan()
			if err != nil || total < 16 {
				t.Fatalf("a complete scan made %d reads (error %v), want at least 16", total, err)
			}
			for read := int64(1); read < total-4; read += 3 {
				cancelAt.Store(read)
				if n, err := scan(); !errors.Is(err, context.Canceled) || n > read+2 {
					t.Errorf("canceled at read %d of %d, the scan made %d reads, want at most two more; error %v", read, total, n, err)
				}
			}
		})
	}
}
