package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// fullStore returns a store that could not seal its first table, and whose second table is in
// use, so that a Scan must retain both. Its file system rejects writes to segments while full
// is set.
func fullStore(t *testing.T) (s *Store, mem *vfstest.Mem, full *atomic.Bool) {
	t.Helper()
	mem, full = vfstest.NewMem(), new(atomic.Bool)
	full.Store(true)
	s = openWith(t, crashDir, &Options{Memory: MinMemory}, crashHooksOn(vfstest.Inject(mem, failSegmentWrites(full))))
	fill(t, s)
	return s, mem, full
}

// fill appends until the tables are full, and returns the number of keys.
func fill(t *testing.T, s *Store) int {
	t.Helper()
	for i := range 100 {
		err := s.Append(t.Context(), partd.Entry{Key: fmt.Sprint("full", i), Value: make([]byte, 300)})
		if errors.Is(err, syscall.ENOSPC) {
			return i
		}
		must.Do(t, err)
	}
	t.Fatal("100 appends did not fill the tables")
	return 0
}

// shortContext returns a context with a time limit that calls reach only if they block.
func shortContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantMemory checks that the store has exactly its two tables in memory, no spare ones, and no slow readers.
func wantMemory(t *testing.T, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.tables.free)
	for _, u := range []*memtable{s.tables.active, s.tables.frozen} {
		if u != nil {
			n++
		}
	}
	if n != 2 || s.tables.spares != 0 || s.tables.slowReaders != 0 {
		t.Fatalf("the store has %d tables, %d spare tables and %d slow readers, want 2, 0 and 0", n, s.tables.spares, s.tables.slowReaders)
	}
}

// TestDropWithinScanOfAFullStore checks that a Scan that retains both tables does not block Drop.
func TestDropWithinScanOfAFullStore(t *testing.T) {
	s, _, _ := fullStore(t)
	n := 0
	for c, err := range s.Scan(t.Context()) {
		must.Do(t, err)
		if n == 0 {
			must.Do(t, s.Drop(shortContext(t)))
			mustAppend(t, s, "after", "dropped")
		}
		if c.Key == "after" {
			t.Error("Scan yielded data that was appended after its start")
		}
		n++
	}
	if n < 10 {
		t.Errorf("Scan yielded only %d keys, want at least 10", n)
	}
	if got, err := contents(s); err != nil || len(got) != 1 || string(got["after"]) != "dropped" {
		t.Fatalf("after Drop and an append, the store has %d keys (error %v), want 1", len(got), err)
	}
	wantValue(t, s, "full0", "")
	must.Do(t, s.Drop(shortContext(t)))
	wantMemory(t, s)
	must.Do(t, s.Close())
}

// TestAppendWithinScanOfAFullStore checks that a Scan that retains both tables does not block appends when the disk
// has space again.
func TestAppendWithinScanOfAFullStore(t *testing.T) {
	s, _, full := fullStore(t)
	before := must.Get(contents(s))(t)
	n := 0
	for _, err := range s.Scan(t.Context()) {
		must.Do(t, err)
		if n == 0 {
			full.Store(false)
			for i := range 200 {
				must.Do(t, s.Append(shortContext(t), partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 300)}))
			}
			must.Do(t, s.Flush(shortContext(t)))
			// The disk is full again, so no more tables may be retained.
			full.Store(true)
			mustAppend(t, s, "last", "value")
			if _, err := contents(s); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("second Scan on a full disk: error %v, want ENOSPC, so that it retains no tables", err)
			}
			wantValue(t, s, "last", "value")
			full.Store(false)
			must.Do(t, s.Flush(shortContext(t)))
		}
		n++
	}
	if n != len(before) {
		t.Errorf("Scan yielded %d keys, want %d", n, len(before))
	}
	wantMemory(t, s)
	if got, err := contents(s); err != nil || len(got) != len(before)+201 {
		t.Fatalf("the store has %d keys (error %v), want %d", len(got), err, len(before)+201)
	}
	must.Do(t, s.Close())
}

// TestAppendWhileOpenOfAFullStore checks that an unfinished reader of an unsealed value does not block appends.
func TestAppendWhileOpenOfAFullStore(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	fs := vfstest.Inject(vfstest.NewMem(), failSegmentWrites(&full))
	s := openWith(t, crashDir, &Options{Memory: MinMemory}, hooks{fs: fs})
	piece := strings.Repeat("v", 15<<10)
	for range maxOpenCopy/len(piece) + 2 {
		mustAppend(t, s, "large", piece)
	}
	r := must.Get(s.Open(t.Context(), "large"))(t)
	if s.tables.slowReaders != 1 {
		t.Fatalf("the store has %d slow readers, want 1", s.tables.slowReaders)
	}
	full.Store(false)
	for i := range 400 {
		must.Do(t, s.Append(shortContext(t), partd.Entry{Key: fmt.Sprint(i), Value: []byte(piece)}))
	}
	must.Do(t, s.Flush(shortContext(t)))
	n, err := io.Copy(io.Discard, r)
	if want := int64(len(piece) * (maxOpenCopy/len(piece) + 2)); err != nil || n != want {
		t.Fatalf("the reader returned %d bytes, want %d; error %v", n, want, err)
	}
	must.Do(t, r.Close())
	wantMemory(t, s)
	must.Do(t, s.Close())
}
