package logstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestLentMemory checks that a scan of a large store uses half of an unused table, that appends during
// the scan neither wait for it nor exceed the memory, and that the table is restored afterwards.
func TestLentMemory(t *testing.T) {
	s := openWith(t, t.TempDir(), &Options{Memory: MinMemory}, hooks{fs: osFS})
	defer s.Close()
	value := make([]byte, 1000)
	appendKeys := func(n int) {
		t.Helper()
		for i := range n {
			must.Do(t, s.Append(context.Background(), partd.Entry{Key: fmt.Sprint("k", i%100), Value: value}))
		}
	}
	arenas := func() (n, tables int64, lent bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		list := s.tables.inUse()
		for range len(s.tables.free) {
			free := <-s.tables.free
			list = append(list, free)
			s.tables.free <- free
		}
		for _, table := range list {
			n += int64(len(table.arena))
		}
		return n, int64(len(list)), s.tables.lent
	}
	s.mu.Lock()
	for _, c := range []struct{ slowReaders, spares int }{{1, 0}, {0, 1}, {1, 1}} {
		s.tables.slowReaders, s.tables.spares = c.slowReaders, c.spares
		if n := s.tables.lend(0); n > 0 {
			t.Errorf("lend() = %d with %d slow readers and %d spare tables, want 0", n, c.slowReaders, c.spares)
		}
	}
	s.tables.slowReaders, s.tables.spares = 0, 0
	s.mu.Unlock()
	full, _, _ := arenas()
	const count = 8000
	appendKeys(count)
	must.Do(t, s.Flush(t.Context()))
	total, seals := 0, s.journal.counters.seals.Load()
	for c, err := range s.Scan(t.Context()) {
		must.Do(t, err)
		if total == 0 {
			appendKeys(count)
			if n := s.journal.counters.seals.Load() - seals; n < 3 {
				t.Errorf("%d tables were sealed during the scan, want several", n)
			}
			if n, tables, lent := arenas(); !lent || n > full*3/4 {
				t.Errorf("during the scan, %d tables have %d bytes, and lent is %v, want at most %d bytes", tables, n, lent, full*3/4)
			}
		}
		total += len(c.Data)
	}
	if total != count*len(value) {
		t.Errorf("the scan returned %d bytes, want %d", total, count*len(value))
	}
	appendKeys(count)
	must.Do(t, s.Flush(t.Context()))
	if n, tables, lent := arenas(); n != full || tables != 2 || lent {
		t.Errorf("after the scan, %d tables have %d bytes, and lent is %v, want 2 with %d bytes", tables, n, lent, full)
	}
}

// TestLentMemoryIsReturned ends scans early. Each must give the lent memory back.
func TestLentMemoryIsReturned(t *testing.T) {
	h := lendingHooks
	h.fs = vfstest.NewMem()
	s := openWith(t, "/store", &Options{Memory: MinMemory}, h)
	defer s.Close()
	appendPieces(t, s, 1000)
	isLent := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tables.lent
	}
	for end, keep := range map[string]func(cancel func()) bool{
		"break":  func(func()) bool { return false },
		"cancel": func(cancel func()) bool { cancel(); return true },
		"panic":  func(func()) bool { panic("the consumer fails") },
		"whole":  func(func()) bool { return true },
	} {
		func() {
			defer func() { _ = recover() }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for _, err := range s.Scan(ctx) {
				if err != nil {
					return
				}
				if !isLent() {
					t.Errorf("%s: no table was lent", end)
				}
				if !keep(cancel) {
					return
				}
			}
		}()
		if isLent() {
			t.Errorf("%s: the scan ended, but its memory is still lent", end)
		}
	}
}

// TestLargeBatchesWhileLent checks that a table is lent only if an append of the maximum size fits into the rest. Such
// appends must succeed during a scan.
func TestLargeBatchesWhileLent(t *testing.T) {
	for _, c := range []struct {
		maxBatch int64
		lends    bool
	}{{80 << 10, true}, {86 << 10, false}, {200 << 10, false}, {256 << 10, false}} {
		h := lendingHooks
		h.fs, h.maxBatch = vfstest.NewMem(), c.maxBatch
		s := openWith(t, "/store", &Options{Memory: MinMemory}, h)
		appendPieces(t, s, 1000)
		batch := make([]partd.Entry, (c.maxBatch-100)/(3<<10))
		for i := range batch {
			batch[i] = partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 3000)}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for _, err := range s.Scan(ctx) {
			must.Do(t, err)
			s.mu.Lock()
			if s.tables.lent != c.lends {
				t.Errorf("with batches of %d bytes, lent is %v, want %v", c.maxBatch, s.tables.lent, c.lends)
			}
			s.mu.Unlock()
			for range 5 {
				must.Do(t, s.Append(ctx, batch...))
			}
			break
		}
		cancel()
		must.Do(t, s.Close())
	}
}

// TestTableTakenDuringTakeBack takes both tables while takeBack runs. takeTable receives a table without Store.mu, so
// takeBack must not wait for a table that it has counted.
func TestTableTakenDuringTakeBack(t *testing.T) {
	var mu sync.Mutex
	ts := &memtables{mu: &mu, bytes: 16 << 20, free: make(chan *memtable, 2)}
	must.Do(t, ts.allocate())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			for range 2 { // lend both tables, and fill them, so that takeBack needs time to free their memory
				lent := <-ts.free
				must.Check(t, lent.resize(ts.bytes/2))
				for i := 0; i < len(lent.arena); i += pageLen {
					lent.arena[i] = 1
				}
				ts.free <- lent
			}
			var takers sync.WaitGroup
			begin := make(chan struct{})
			for range 2 {
				takers.Go(func() {
					<-begin
					taken := <-ts.free
					mu.Lock()
					ts.put(taken)
					mu.Unlock()
				})
			}
			mu.Lock()
			close(begin)
			ts.takeBack()
			mu.Unlock()
			takers.Wait()
		}
	}()
	must.Receive(t, done, 20*time.Second, "the end of takeBack, which must not wait for a table that a writer took")
	ts.close()
}
