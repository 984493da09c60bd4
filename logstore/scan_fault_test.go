package logstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// Wherever a consumer stops, panics or cancels, all goroutines must end. The chunks until
// then must be the beginning of a complete Scan.
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
				if err != nil {
					t.Fatal(err)
				}
			}
			func() {
				defer func() { _ = recover() }()
				for range s.Scan(t.Context()) {
					panic("the caller's")
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
				t.Fatalf("%d workers, canceled at chunk %d of %d: %v", workers, stop, n, last)
			}
			for tries := 0; runtime.NumGoroutine() > before; tries++ { // the last goroutine may still be ending
				if tries == 1000 {
					t.Fatalf("%d workers: %d goroutines, %d before", workers, runtime.NumGoroutine(), before)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if used := s.scanMemory.Load(); used != 0 {
			t.Errorf("%d bytes were not freed", used)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Any failed read must be reported, after correct data.
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
		all, err := collectParts(s.Scan(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for read := 0; ; read++ {
			mu.Lock()
			remaining = read
			mu.Unlock()
			got, err := collectParts(s.Scan(t.Context()))
			if err == nil {
				if !got.equals(all) {
					t.Fatal("data is missing, without an error")
				}
				break
			}
			failures++
			if !errors.Is(err, errRead) {
				t.Fatal(err)
			}
			for i, k := range got.keys {
				if k != all.keys[i] || !bytes.HasPrefix(all.values[k], got.values[k]) {
					t.Fatalf("%d workers, read %d: key %q has changed", workers, read, k)
				}
			}
		}
		if failures < 20 {
			t.Errorf("only %d reads failed", failures)
		}
		mu.Lock()
		remaining = -1
		mu.Unlock()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Drop and Close must not affect a running Scan.
func TestScanOutlivesStore(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.scanWorkers = 4
	s, want := rangesStore(t, h)
	dropped := false
	got, err := collectParts(func(yield func(partd.Chunk, error) bool) {
		for c, err := range s.ScanPart(t.Context(), 0, 1) {
			if !dropped {
				dropped = true
				if err := errors.Join(s.Drop(t.Context()), s.Close()); err != nil {
					t.Error(err)
				}
			}
			if !yield(c, err) {
				return
			}
		}
	})
	if err != nil || !maps.EqualFunc(got.values, want, bytes.Equal) {
		t.Fatalf("%d keys, want %d, %v", len(got.keys), len(want), err)
	}
}

// A Scan must detect a flipped bit, and so must the part that contains it, but no other part.
// Without checksums of blocks, a changed key must be detected if it is in the wrong range.
func TestDamageInParts(t *testing.T) {
	const parts = 4
	mem := vfstest.NewMem()
	h := scanHooks(mem)
	h.scanWorkers = 2
	s, _ := rangesStore(t, h)
	defer s.Close()
	if len(s.segments.list) == 0 || s.segments.list[0].Bits < 2 || len(s.segments.list[0].Hot) == 0 {
		t.Fatal("the store has too few ranges")
	}
	bad := func(chunks func(func(partd.Chunk, error) bool)) bool {
		t.Helper()
		_, err := collectParts(chunks)
		var corrupt *partd.CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			t.Fatal(err)
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
			if !bad(s.Scan(t.Context())) {
				t.Fatalf("a Scan does not detect the change at %d", off)
			}
			for p := range parts {
				ph := partHashes(p, parts)
				if holds := ph.lo <= hi && ph.hi >= lo; bad(s.ScanPart(t.Context(), p, parts)) != holds {
					t.Fatalf("part %d, hashes %x to %x: an error should be %v for a change at %d, of %x to %x", p, ph.lo, ph.hi, holds, off, lo, hi)
				}
			}
			s.format.NoCRC = true
			for p := range parts {
				if _, err := collectParts(s.ScanPart(t.Context(), p, parts)); err != nil && strings.Contains(err.Error(), "in the wrong range") {
					detected++
				}
			}
			s.format.NoCRC = false
			changeByte(t, mem, seg.file.Path, seg.Start+off, func(b byte) byte { return b ^ 4 })
			changed++
		}
	}
	if changed < 100 || detected == 0 {
		t.Errorf("changed %d places, and detected %d without checksums", changed, detected)
	}
}

// Without checksums of blocks, a changed key must either be found in the range of its new
// hash, or be detected in a wrong range.
func TestKeyInWrongRange(t *testing.T) {
	mem := vfstest.NewMem()
	s, want := rangesStore(t, scanHooks(mem))
	defer s.Close()
	s.format.NoCRC = true
	whole := 0
	for _, v := range want {
		whole += len(v)
	}
	seg := s.segments.list[0]
	ranges := int(seg.Offsets[len(seg.Offsets)-1])
	b := make([]byte, int(seg.Hot[0].Off+seg.Hot[0].Len)) // includes the hot run after the ranges
	if _, err := seg.file.ReadAt(b, seg.Start); err != nil || string(seg.Hot[0].Key) != "hot" {
		t.Fatal(err)
	}
	refused := 0
	for off := range b {
		if hot := off >= ranges; !hot && !bytes.HasPrefix(b[off:], []byte("key")) || hot && !bytes.HasPrefix(b[off:], []byte("hot")) {
			continue
		}
		changeByte(t, mem, seg.file.Path, seg.Start+int64(off), func(b byte) byte { return b ^ 1 })
		var errs error
		total := 0
		for p := range 4 {
			got, err := collectParts(s.ScanPart(t.Context(), p, 4))
			errs = errors.Join(errs, err)
			for _, v := range got.values {
				total += len(v)
			}
		}
		switch {
		case errs != nil && strings.Contains(errs.Error(), "in the wrong range"):
			refused++
		case errs != nil || total != whole || off >= ranges:
			t.Fatalf("the key at %d was lost: %d bytes, want %d, %v", off, total, whole, errs)
		}
		changeByte(t, mem, seg.file.Path, seg.Start+int64(off), func(b byte) byte { return b ^ 1 })
	}
	if refused == 0 {
		t.Error("no key was detected in a wrong range")
	}
}
