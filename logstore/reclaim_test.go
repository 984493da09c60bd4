package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
)

// reclaimHooks make a store reclaim space almost constantly.
var reclaimHooks = hooks{
	tableBytes: 64 << 10, blobBytes: 600, readBytes: 16 << 10, walStep: 4096,
	minMerge: 6, smallLen: 1 << 20, reclaimSlack: 16 << 10,
}

// opener returns a function that opens a store, each time with the same options.
func opener(t *testing.T, dir string, o *Options, h hooks) func() *Store {
	return func() *Store {
		t.Helper()
		s := openWith(t, dir, o, h)
		return s
	}
}

// ledgers returns the ledgers of all data ever written to segments, and of the data removed from them.
func (s *Store) ledgers() (written, removed segment.Ledger) {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	written, removed = s.catalog.manifest.ledger, s.catalog.manifest.removedLedger
	written.Add(removed)
	return written, removed
}

func addChange(l *segment.Ledger, key string, value []byte, marks ...segment.Kind) {
	b := &batch{}
	for _, m := range marks {
		b.add(m, key, nil, 0, 0)
	}
	if len(value) > 0 {
		b.add(segment.KindAppend, key, value, 0, 0)
	}
	l.Add(b.ledger)
}

// TestReclaimContent makes random changes while space is reclaimed. The content must stay
// correct, and the ledgers of the live and the removed data must add up to all changes.
func TestReclaimContent(t *testing.T) {
	for seed, c := range []Compression{None, S2, None, Zstd, None, None} {
		h := reclaimHooks
		h.fs = vfs.OS{}
		if seed%2 == 1 {
			h.mergeBytes = 8 << 10
		}
		if seed == 4 {
			h.hash = func(key string) uint64 { return uint64(len(key)%2) << 63 } // puts all keys in two ranges
		}
		reopen := opener(t, t.TempDir(), &Options{Compression: c, FileSize: 100 << 10}, h)
		s := reopen()
		want := map[string][]byte{}
		var changes segment.Ledger
		rnd := rand.New(rand.NewPCG(uint64(seed), 3))
		var readers []func()
		for round := range 3000 {
			k := fmt.Sprint("key", rnd.IntN(80))
			if rnd.IntN(3) == 0 {
				k = "hot"
			}
			v := bytes.Repeat(fmt.Appendf(nil, "%d ", round), 1+rnd.IntN(60))
			if rnd.IntN(20) == 0 {
				v = bytes.Repeat(v, 12)
			}
			var err error
			switch x := rnd.IntN(100); {
			case x < 10:
				if _, exists := want[k]; exists {
					addChange(&changes, k, nil, segment.KindDelete)
				}
				delete(want, k)
				err = s.Delete(t.Context(), k)
			case x < 15:
				want[k] = v
				addChange(&changes, k, v, segment.KindSet)
				err = s.Set(t.Context(), k, v)
			case x < 20:
				if _, exists := want[k]; !exists {
					want[k] = v
					addChange(&changes, k, v, segment.KindSet)
				}
				err = s.SetOnce(t.Context(), k, v)
			case x < 35:
				var got [][]byte
				if got, err = s.Pop(t.Context(), k); err == nil && !bytes.Equal(got[0], want[k]) {
					t.Fatalf("seed %d, round %d: Pop(%s) returned wrong data: %d bytes, want %d", seed, round, k, len(got[0]), len(want[k]))
				}
				if _, exists := want[k]; exists {
					addChange(&changes, k, nil, segment.KindDelete)
				}
				delete(want, k)
			case x == 35:
				err = s.Flush(t.Context())
			case x == 36:
				readers = append(readers, readLater(t, s, want))
			case x == 37 && len(readers) > 0:
				readers[0]()
				readers = readers[1:]
			case x == 38 && round%5 == 0:
				if err = s.Close(); err == nil {
					s = reopen()
				}
			default:
				want[k] = append(want[k][:len(want[k]):len(want[k])], v...)
				addChange(&changes, k, v)
				err = s.Append(t.Context(), partd.Entry{Key: k, Value: v})
			}
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
		}
		for _, end := range readers {
			end()
		}
		waitMerged(t, s)
		must.Do(t, s.Flush(t.Context()))
		all, removed := s.ledgers()
		if err := changes.Diff(all); err != nil {
			t.Errorf("seed %d: the ledgers of live and removed data do not add up to all changes: %v", seed, err)
		}
		if removed.Pieces < changes.Pieces/2 || removed.Marks < changes.Marks/2 {
			t.Errorf("seed %d: of all data %+v, only %+v was removed, want at least half", seed, changes, removed)
		}
		wantMerged(t, s, want)
		must.Do(t, s.Close())
		s = reopen()
		wantMerged(t, s, want)
		must.Do(t, s.Close())
	}
}

// readLater opens a reader, and returns a function that reads and checks it later.
func readLater(t *testing.T, s *Store, want map[string][]byte) func() {
	t.Helper()
	want = maps.Clone(want)
	r, err := s.Open(t.Context(), "hot")
	if errors.Is(err, os.ErrNotExist) || err == nil && r == nil {
		return func() {}
	}
	must.Do(t, err)
	return func() {
		t.Helper()
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, want["hot"]) {
			t.Fatalf("the reader returned wrong data: %d bytes, want %d; error %v", len(b), len(want["hot"]), err)
		}
	}
}

// disk returns the disk space of a directory's files whose names have the given prefix.
func disk(t *testing.T, dir, prefix string) (n int64) {
	t.Helper()
	for _, name := range must.Get(filepath.Glob(filepath.Join(dir, prefix+"*")))(t) {
		if info, err := (vfs.OS{}).Info(name); err == nil { // another goroutine may have removed the file
			n += info.Disk
		}
	}
	return n
}

// settle waits for all background work.
func settle(t *testing.T, s *Store) {
	t.Helper()
	waitMerged(t, s)
	s.segments.discards.Wait()
}
