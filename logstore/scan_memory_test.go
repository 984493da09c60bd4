package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func readAll(t *testing.T, s *Store, keys int, bytes int64) {
	t.Helper()
	var gotKeys int
	var gotBytes int64
	for c, err := range s.Scan(context.Background()) {
		must.Do(t, err)
		gotBytes += int64(len(c.Data))
		if c.Last {
			gotKeys++
		}
	}
	if gotKeys != keys || gotBytes != bytes {
		t.Errorf("Scan yielded %d keys with %d bytes, want %d keys with %d bytes", gotKeys, gotBytes, keys, bytes)
	}
}

// TestScanMemoryOfLongKeys checks that the memory limit of a Scan's read-ahead also covers keys.
func TestScanMemoryOfLongKeys(t *testing.T) {
	ctx := t.Context()
	s := openWith(t, t.TempDir(), &Options{Memory: MinMemory}, hooks{fs: osFS})
	defer s.Close()
	const keys, limit = 2500, 48 << 20
	longKey := strings.Repeat("k", 50_000)
	for i := range keys {
		must.Do(t, s.Append(ctx, partd.Entry{Key: fmt.Sprintf("%08d", i) + longKey, Value: []byte("v")}))
	}
	if n := procs.HeapPeak(func() { readAll(t, s, keys, keys) }); n > limit {
		t.Errorf("Scan used %d MiB, want at most %d", n>>20, limit>>20)
	}
	n := procs.HeapPeak(func() {
		st, err := s.Stat(ctx)
		if err != nil || st.Keys != keys || st.Bytes != keys {
			t.Errorf("Stat() = %+v, %v, want %d keys and bytes", st, err, keys)
		}
	})
	if n > limit {
		t.Errorf("Stat used %d MiB, want at most %d", n>>20, limit>>20)
	}
}

// TestScanMemoryOfUnevenRanges checks the memory limit of a Scan of many segments that are so
// small that they have few ranges, and contain only one key. One range of a segment with many
// ranges must then be read together with the data of all small segments.
func TestScanMemoryOfUnevenRanges(t *testing.T) {
	ctx := t.Context()
	s := openWith(t, t.TempDir(), &Options{Memory: 64 << 20}, hooks{fs: vfs.OS{}, readBytes: 1 << 20, minMerge: -1})
	defer s.Close()
	const keys, segments, limit = 5000, 600, 12 << 20
	value := make([]byte, 40<<10)
	for i := range keys {
		must.Do(t, s.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: value[:1000]}))
	}
	must.Do(t, s.Flush(ctx))
	for range segments {
		must.Do(t, s.Append(ctx, partd.Entry{Key: "one", Value: value}))
		must.Do(t, s.Flush(ctx))
	}
	if s.segments.list[1].Bits >= s.segments.list[0].Bits || len(s.segments.list[1].Hot) > 0 {
		t.Fatalf("the first segment has %d bits and the second %d, with %d hot keys, want fewer bits and no hot keys", s.segments.list[0].Bits, s.segments.list[1].Bits, len(s.segments.list[1].Hot))
	}
	n := procs.HeapPeak(func() { readAll(t, s, keys+1, keys*1000+segments*int64(len(value))) })
	t.Logf("a scan used %d KiB", n>>10)
	if n > limit {
		t.Errorf("Scan used %d MiB, want at most %d", n>>20, limit>>20)
	}
	st, err := s.Stat(ctx)
	if err != nil || st.Keys != keys+1 || st.Bytes != keys*1000+segments*int64(len(value)) {
		t.Errorf("Stat() = %+v, %v, want %d keys", st, err, keys+1)
	}
}

// TestScanMemoryOfShortEntries checks the memory limit of a Scan whose entries are shorter than the references to
// them, with many and with few keys.
func TestScanMemoryOfShortEntries(t *testing.T) {
	const segments, perSegment = 900, 1100
	for keys, limit := range map[int]int64{segments * perSegment: 64 << 20, 1000: 24 << 20} {
		if procs.RaceEnabled && keys > 1000 {
			continue // a million keys would be slow
		}
		t.Run(fmt.Sprint(keys, "keys"), func(t *testing.T) {
			ctx := t.Context()
			s := openWith(t, t.TempDir(), &Options{Memory: 64 << 20}, hooks{fs: vfs.OS{}, minMerge: -1})
			defer s.Close()
			large := make([]byte, 5<<10)
			for i := range 16 {
				must.Do(t, errors.Join(s.Append(ctx, partd.Entry{Key: fmt.Sprint("large", i), Value: large}), s.Flush(ctx)))
			}
			entries := make([]partd.Entry, perSegment)
			for i := range segments {
				for j := range entries {
					n := (i*perSegment + j) % keys
					entries[j] = partd.Entry{Key: string([]byte{byte(n >> 16), byte(n >> 8), byte(n)}), Value: []byte("v")}
				}
				must.Do(t, errors.Join(s.Append(ctx, entries...), s.Flush(ctx)))
			}
			for _, seg := range s.segments.list {
				if seg.Bits > 0 {
					t.Fatalf("a segment has %d bits, want 0", seg.Bits)
				}
			}
			n := procs.HeapPeak(func() { readAll(t, s, keys+16, segments*perSegment+16*int64(len(large))) })
			t.Logf("a scan used %d KiB", n>>10)
			if n > limit {
				t.Errorf("Scan used %d MiB, want at most %d", n>>20, limit>>20)
			}
		})
	}
}

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
