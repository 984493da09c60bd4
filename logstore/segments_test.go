package logstore

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestFootersWithinMemory checks that the index of many segments stays within its limit, for many keys and hot keys.
func TestFootersWithinMemory(t *testing.T) {
	const total = 80 << 20
	for _, size := range []int{1000, 9000} { // the second size makes every key hot
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			ctx := t.Context()
			opts := &Options{Memory: MinMemory, Compression: S2}
			dir, h := t.TempDir(), hooks{fs: vfs.OS{}, minMerge: -1}
			s := openWith(t, dir, opts, h)
			value := bytes.Repeat([]byte("v"), size)
			keys, batch := 20*300, 40_000/size
			if size > 4000 {
				keys = 300
			}
			n := 0
			for ; n*size < total; n += batch {
				entries := make([]partd.Entry, batch)
				for i := range entries {
					entries[i] = partd.Entry{Key: fmt.Sprint((n + i) % keys), Value: value}
				}
				must.Do(t, s.Append(ctx, entries...))
			}
			check := func(s *Store) {
				t.Helper()
				var ranges, hot, largest int64
				for _, seg := range s.segments.list {
					ranges += 4 * int64(len(seg.Offsets)+len(seg.RawLens))
					hot += seg.HotMemoryUsed()
					largest = max(largest, seg.HotMemoryUsed())
				}
				t.Logf("%d segments: %d bytes of ranges, %d of hot runs", len(s.segments.list), ranges, hot)
				if limit := opts.Memory / 32; ranges > limit || hot > limit+largest {
					t.Errorf("the index has %d bytes of ranges and %d of hot runs, want at most %d each", ranges, hot, limit)
				}
				readAll(t, s, keys, int64(n)*int64(size))
				wantValue(t, s, "7", string(bytes.Repeat(value, (n+keys-8)/keys)))
			}
			must.Do(t, s.Flush(ctx))
			check(s)
			must.Do(t, s.Close())
			s = openWith(t, dir, opts, h)
			check(s)
			must.Do(t, s.Close())
		})
	}
}
