package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestScanStops checks that goroutines and memory of a Scan are freed after its consumer stops, panics or cancels.
func TestScanStops(t *testing.T) {
	for _, workers := range []int{1, 2, 8} {
		h := scanHooks(vfstest.NewMem())
		h.scanWorkers = workers
		s, _ := rangesStore(t, h)
		before := runtime.NumGoroutine()
		for stop := range 40 {
			n := 0
			for _, err := range s.Scan(t.Context()) {
				if n++; n > stop {
					break
				}
				must.Do(t, err)
			}
			func() {
				defer func() { _ = recover() }()
				for range s.Scan(t.Context()) {
					panic("in the consumer")
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			n = 0
			var last error
			for _, err := range s.Scan(ctx) {
				if n++; n == stop+1 {
					cancel()
				}
				last = err
			}
			cancel()
			if !errors.Is(last, context.Canceled) {
				t.Fatalf("%d workers, canceled at chunk %d of %d: error %v, want Canceled", workers, stop, n, last)
			}
			for tries := 0; runtime.NumGoroutine() > before; tries++ { // the last goroutine may still be ending
				if tries == 1000 {
					t.Fatalf("%d workers: %d goroutines are running, want %d as before the scan", workers, runtime.NumGoroutine(), before)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if used := s.scans.memory.Load(); used != 0 {
			t.Errorf("%d bytes of scan memory were not freed", used)
		}
		must.Do(t, s.Close())
	}
}

// TestScanReadFails makes each read of a Scan fail. The Scan must yield correct data and then the error.
func TestScanReadFails(t *testing.T) {
	for _, workers := range []int{1, 2, 8} {
		mem := vfstest.NewMem()
		h := scanHooks(mem)
		h.scanWorkers = workers
		errRead := errors.New("broken")
		var mu sync.Mutex
		remaining := -1
		h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if op != vfstest.OpRead || remaining < 0 {
				return nil
			}
			if remaining--; remaining < 0 {
				return errRead
			}
			return nil
		})
		s, _ := rangesStore(t, h)
		all := must.Get(collectParts(s.Scan(t.Context())))(t)
		failures := 0
		for read := 0; ; read++ {
			mu.Lock()
			remaining = read
			mu.Unlock()
			got, err := collectParts(s.Scan(t.Context()))
			if err == nil {
				if !got.equals(all) {
					t.Fatal("Scan yielded wrong data without an error")
				}
				break
			}
			failures++
			if !errors.Is(err, errRead) {
				t.Fatalf("Scan with a fault: error %v, want %v", err, errRead)
			}
			for i, k := range got.keys {
				if k != all.keys[i] || !bytes.HasPrefix(all.values[k], got.values[k]) {
					t.Fatalf("%d workers, fault in read %d: Scan yielded key %q out of order or with wrong data", workers, read, k)
				}
			}
		}
		if failures < 20 {
			t.Errorf("only %d reads were made to fail, want at least 20", failures)
		}
		mu.Lock()
		remaining = -1
		mu.Unlock()
		must.Do(t, s.Close())
	}
}

// TestScanOutlivesStore checks that Drop and Close do not affect a running Scan.
func TestScanOutlivesStore(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.scanWorkers = 4
	s, want := rangesStore(t, h)
	dropped := false
	got, err := collectParts(func(yield func(partd.Chunk, error) bool) {
		for c, err := range s.ScanPart(t.Context(), 0, 1) {
			if !dropped {
				dropped = true
				must.Check(t, errors.Join(s.Drop(t.Context()), s.Close()))
			}
			if !yield(c, err) {
				return
			}
		}
	})
	if err != nil || !maps.EqualFunc(got.values, want, bytes.Equal) {
		t.Fatalf("Scan yielded wrong contents: %d keys, want %d; error %v", len(got.keys), len(want), err)
	}
}

// TestDamageInParts checks that a flipped bit is detected by a Scan, and by ScanPart of only the part
// that contains it. If the checksum of its block is right, a changed key must be detected if it is in
// the wrong range.
func TestDamageInParts(t *testing.T) {
	const parts = 4
	mem := vfstest.NewMem()
	h := scanHooks(mem)
	h.scanWorkers = 2
	s, _ := rangesStore(t, h)
	defer s.Close()
	if len(s.segments.list) == 0 || s.segments.list[0].Bits < 2 || len(s.segments.list[0].Hot) == 0 {
		t.Fatal("the store has too few ranges or no hot key, so the test would prove nothing")
	}
	isDamaged := func(chunks func(func(partd.Chunk, error) bool)) bool {
		t.Helper()
		_, err := collectParts(chunks)
		if err != nil && !errors.As(err, new(*partd.CorruptError)) {
			t.Fatalf("reading changed data: error %v, want nil or a CorruptError", err)
		}
		return err != nil
	}
	changed, detected := 0, 0
	for _, seg := range s.segments.list {
		end := int64(seg.Offsets[len(seg.Offsets)-1])
		for i := range seg.Hot {
			end = max(end, int64(seg.Hot[i].Off)+int64(seg.Hot[i].Len))
		}
		for off := int64(0); off < end; off += 331 {
			r, _ := slices.BinarySearch(seg.Offsets, uint32(off)+1)
			var lo, hi uint64
			if r-1 < len(seg.Offsets)-1 {
				lo, hi = segment.HashBounds(r-1, r, seg.Bits)
			}
			for i := range seg.Hot {
				if k := &seg.Hot[i]; off >= int64(k.Off) && off < int64(k.Off)+int64(k.Len) {
					lo, hi = k.Hash, k.Hash
				}
			}
			changeByte(t, mem, seg.file.Path, seg.Start+off, func(b byte) byte { return b ^ 4 })
			if !isDamaged(s.Scan(t.Context())) {
				t.Fatalf("Scan does not detect the changed byte at offset %d", off)
			}
			for p := range parts {
				ph := partHashes(p, parts)
				if holds := ph.lo <= hi && ph.hi >= lo; isDamaged(s.ScanPart(t.Context(), p, parts)) != holds {
					t.Fatalf("part %d, hashes %x to %x: damage reported = %v, want %v; the changed byte is at offset %d, in the range of hashes %x to %x", p, ph.lo, ph.hi, !holds, holds, off, lo, hi)
				}
			}
			b := make([]byte, 1)
			must.Get(seg.file.ReadAt(b, seg.Start+off))(t)
			changeByte(t, mem, seg.file.Path, seg.Start+off, func(b byte) byte { return b ^ 4 })
			restore := changeChecked(t, seg, seg.Start+off, b...)
			for p := range parts {
				if _, err := collectParts(s.ScanPart(t.Context(), p, parts)); err != nil && strings.Contains(err.Error(), "in the wrong range") {
					detected++
				}
			}
			restore()
			changed++
		}
	}
	seg := s.segments.list[0]
	hot := seg.Hot[0]
	run := make([]byte, hot.Len)
	must.Get(seg.file.ReadAt(run, seg.Start+int64(hot.Off)))(t)
	i := bytes.Index(run, hot.Key)
	restore := changeChecked(t, seg, seg.Start+int64(hot.Off)+int64(i), run[i]^1)
	if _, err := collectParts(s.Scan(t.Context())); err == nil || !strings.Contains(err.Error(), "in the wrong range") {
		t.Errorf("Scan of a hot key's run with another key and a right checksum: error %v, want one about the wrong range", err)
	}
	restore()
	if changed < 100 || detected == 0 {
		t.Errorf("%d bytes were changed, and %d changes were detected despite right checksums, want at least 100 and 1", changed, detected)
	}
}

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
