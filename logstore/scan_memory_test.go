package logstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/internal/vfs"
)

// heapPeak returns the most that was on the heap while f ran, beyond what was
// there before. The collector runs often meanwhile: how much garbage waits for it
// would else depend on what other programs do to the machine.
func heapPeak(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before := heap()
	most := before
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			most = max(most, heap())
			time.Sleep(2 * time.Millisecond)
		}
	}()
	f()
	stop.Store(true)
	<-done
	return most - before
}

// readAll scans a store and checks how many keys and bytes there are.
func readAll(t *testing.T, s *Store, keys int, bytes int64) {
	t.Helper()
	var gotKeys int
	var gotBytes int64
	for c, err := range s.Scan(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		gotBytes += int64(len(c.Data))
		if c.Last {
			gotKeys++
		}
	}
	if gotKeys != keys || gotBytes != bytes {
		t.Errorf("%d keys with %d bytes, want %d with %d", gotKeys, gotBytes, keys, bytes)
	}
}

// What waits for the reader is bounded in bytes of keys, too: 4,000 keys of
// 50 KB are 200 MB.
func TestScanMemoryOfLongKeys(t *testing.T) {
	ctx := t.Context()
	s, err := Open(t.TempDir(), &Options{Memory: MinMemory})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const keys, most = 4000, 48 << 20
	long := strings.Repeat("k", 50_000)
	for i := range keys {
		if err := s.Append(ctx, partd.Entry{Key: fmt.Sprintf("%08d", i) + long, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	if n := heapPeak(func() { readAll(t, s, keys, keys) }); n > most {
		t.Errorf("a scan took %d MiB", n>>20)
	}
	n := heapPeak(func() {
		st, err := s.Stat(ctx)
		if err != nil || st.Keys != keys || st.Bytes != keys {
			t.Errorf("%+v, %v", st, err)
		}
	})
	if n > most {
		t.Errorf("counting took %d MiB", n>>20)
	}
}

// A segment too small for many ranges may hold one key alone, so that one range
// of a finer segment gets all of many such segments.
func TestScanMemoryOfUnevenRanges(t *testing.T) {
	ctx := t.Context()
	s, err := open(t.TempDir(), &Options{Memory: 64 << 20}, hooks{fs: vfs.OS{}, readBytes: 1 << 20, minMerge: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const keys, segments, most = 5000, 600, 12 << 20
	value := make([]byte, 40<<10)
	for i := range keys {
		if err := s.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: value[:1000]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for range segments {
		if err := s.Append(ctx, partd.Entry{Key: "one", Value: value}); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if s.segments.list[1].Bits >= s.segments.list[0].Bits || len(s.segments.list[1].Hot) > 0 {
		t.Fatalf("%d bits, then %d, %d hot", s.segments.list[0].Bits, s.segments.list[1].Bits, len(s.segments.list[1].Hot))
	}
	n := heapPeak(func() { readAll(t, s, keys+1, keys*1000+segments*int64(len(value))) })
	t.Logf("a scan took %d KiB", n>>10)
	if n > most {
		t.Errorf("a scan took %d MiB", n>>20)
	}
	st, err := s.Stat(ctx)
	if err != nil || st.Keys != keys+1 || st.Bytes != keys*1000+segments*int64(len(value)) {
		t.Errorf("%+v, %v", st, err)
	}
}

// What a Scan notes of very short entries takes more than they do. Neither few
// keys with large values in front of them, nor how many they are, nor that all
// have the same few keys, lets it take more memory.
func TestScanMemoryOfShortEntries(t *testing.T) {
	const segments, perSegment = 900, 1100
	for keys, most := range map[int]int64{segments * perSegment: 64 << 20, 1000: 24 << 20} {
		if race.On && keys > 1000 {
			continue // a million keys are nothing new to it
		}
		t.Run(fmt.Sprint(keys, "keys"), func(t *testing.T) {
			ctx := t.Context()
			s, err := open(t.TempDir(), &Options{Memory: 64 << 20}, hooks{fs: vfs.OS{}, minMerge: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			large := make([]byte, 5<<10)
			for i := range 16 {
				if err := errors.Join(s.Append(ctx, partd.Entry{Key: fmt.Sprint("large", i), Value: large}), s.Flush(ctx)); err != nil {
					t.Fatal(err)
				}
			}
			entries := make([]partd.Entry, perSegment)
			for i := range segments {
				for j := range entries {
					n := (i*perSegment + j) % keys
					entries[j] = partd.Entry{Key: string([]byte{byte(n >> 16), byte(n >> 8), byte(n)}), Value: []byte("v")}
				}
				if err := errors.Join(s.Append(ctx, entries...), s.Flush(ctx)); err != nil {
					t.Fatal(err)
				}
			}
			for _, g := range s.segments.list {
				if g.Bits > 0 {
					t.Fatalf("%d bits", g.Bits)
				}
			}
			n := heapPeak(func() { readAll(t, s, keys+16, segments*perSegment+16*int64(len(large))) })
			t.Logf("a scan took %d KiB", n>>10)
			if n > most {
				t.Errorf("a scan took %d MiB", n>>20)
			}
		})
	}
}
