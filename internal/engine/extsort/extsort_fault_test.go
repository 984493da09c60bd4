package extsort

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// sortPairsIn sorts pairs with temporary data in fsys. It returns the number of records in the output.
func sortPairsIn(ctx context.Context, fsys vfs.FS, dir string, o Options, pairs []pair) (n int, err error) {
	temp, err := tempdir.New([]string{dir}, fsys)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	o.Temp = temp
	s, err := New(ctx, &o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w, err := s.Writer()
	if err != nil {
		return 0, err
	}
	for _, p := range pairs {
		if err := w.Add(p.key, p.rec); err != nil {
			return 0, errors.Join(err, w.Close())
		}
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	for b, err := range s.Sorted() {
		if err != nil {
			return n, err
		}
		n += b.Len()
	}
	return n, nil
}

// TestQuota checks that runs count against the process's quota for temporary files until the sorter is closed.
func TestQuota(t *testing.T) {
	defer spill.Process.SetLimit(0)
	spill.Process.SetLimit(4 << 20)
	_, err := sortPairsIn(t.Context(), vfs.OS{}, t.TempDir(), Options{Memory: MinMemory}, longPairs(3000))
	must.Fail(t, err, partd.ErrTooLarge, "sorting beyond the quota")
	spill.Process.SetLimit(1)
	if err := spill.Process.Take(1); err != nil {
		t.Error("the closed sorter's runs still count against the quota:", err)
	}
	spill.Process.Release(1)
}

// longPairs returns long records, which need large buffers, so that runs are merged in several passes.
func longPairs(n int) []pair {
	r := rand.New(rand.NewPCG(7, 7))
	pairs := make([]pair, n)
	for i := range pairs {
		pairs[i] = pair{fmt.Appendf(nil, "%d", r.IntN(100)), make([]byte, r.IntN(6000))}
	}
	return pairs
}

// TestFaults checks that if any file system call fails, the sort returns the error and leaves no files.
func TestFaults(t *testing.T) {
	pairs := longPairs(500)
	broken := errors.New("broken")
	o := Options{Memory: MinMemory, Threads: 2}
	counter := &vfstest.Fault{}
	must.Get(sortPairsIn(t.Context(), vfstest.Inject(vfs.OS{}, counter.Check), t.TempDir(), o, pairs))(t)
	step := vfstest.FaultStep(max(counter.Calls()/20, 1))
	for _, short := range []bool{false, true} {
		for call := int64(1); call <= counter.Calls(); call += step {
			dir := t.TempDir()
			fault := &vfstest.Fault{Call: call, Err: broken, ShortWrite: short}
			n, err := sortPairsIn(t.Context(), vfstest.Inject(vfs.OS{}, fault.Check), dir, o, pairs)
			if err == nil && n != len(pairs) {
				t.Errorf("call %d failed: the sort returned %d records and no error, want %d", call, n, len(pairs))
			}
			// tempdir.New makes the first 4 calls, and ignores errors about other processes' files.
			if err == nil && fault.Hit() && call > 4 {
				t.Errorf("call %d failed, but the sort returned no error", call)
			}
			if err != nil && !errors.Is(err, broken) {
				t.Errorf("call %d failed: the sort returned %v, want %v", call, err, broken)
			}
			must.Get(tempdir.New([]string{dir}, nil))(t)
			if leftovers, err := os.ReadDir(dir); err != nil || len(leftovers) > 0 {
				t.Errorf("call %d failed: leftover files %v, %v", call, leftovers, err)
			}
		}
	}
}

// TestFreesDiskSpaceDuringMerge checks that the disk space of a run is freed while the merge reads it. If the file
// system cannot free it, the sort still succeeds.
func TestFreesDiskSpaceDuringMerge(t *testing.T) {
	pairs := make([]pair, 20_000)
	for i := range pairs {
		pairs[i] = pair{fmt.Appendf(nil, "%d", i*7919%len(pairs)), make([]byte, 1000)}
	}
	for _, refusal := range []error{nil, errors.ErrUnsupported} {
		var drops atomic.Int64
		check := func(op vfstest.Op, _ string) error {
			if op == vfstest.OpTruncate {
				drops.Add(1)
				return refusal
			}
			return nil
		}
		n, err := sortPairsIn(t.Context(), vfstest.Inject(vfs.OS{}, check), t.TempDir(), Options{Memory: 16 << 20}, pairs)
		if err != nil || n != len(pairs) {
			t.Errorf("if freeing returns %v, the sort returns %d records and the error %v, want all records", refusal, n, err)
		}
		if drops.Load() == 0 {
			t.Error("no disk space was freed")
		}
	}
}

// TestBitRot checks that a flipped bit in a temporary file causes an error.
func TestBitRot(t *testing.T) {
	pairs := longPairs(300)
	fsys := &vfstest.Flip{}
	o := Options{Memory: MinMemory, Threads: 1}
	must.Get(sortPairsIn(t.Context(), fsys, t.TempDir(), o, pairs))(t)
	reads := fsys.Calls
	if reads < 10 {
		t.Fatalf("the sort made only %d reads, want at least 10", reads)
	}
	for read := 1; read <= reads; read += max(reads/6, 1) {
		fsys := &vfstest.Flip{Target: read}
		_, err := sortPairsIn(t.Context(), fsys, t.TempDir(), o, pairs)
		if !errors.As(err, new(*partd.CorruptError)) {
			t.Errorf("with a flipped bit in read %d of %d, the sort returned %v, want a CorruptError", read, reads, err)
		}
	}
}

// TestNotVerified checks that the sorter detects records that were lost, duplicated or changed in memory.
func TestNotVerified(t *testing.T) {
	for name, damage := range map[string]func(s *Sorter){
		"lost":       func(s *Sorter) { s.sorted[0].entries = s.sorted[0].entries[1:] },
		"duplicated": func(s *Sorter) { e := s.sorted[0].entries; e[0] = e[1] },
		"changed": func(s *Sorter) {
			_, rec := recordOf(s.sorted[0].mem, s.sorted[0].entries[5])
			rec[1]++
		},
	} {
		s := newTestSorter(t, &Options{})
		writePairs(t, s, randomPairs(rand.New(rand.NewPCG(1, 1)), 1000, "few"))
		cursors := must.Get(s.prepare())(t)
		damage(s)
		out := s.startMerge(cursors)
		var counted ledger.Count
		for b := range out.full {
			counted.Add(b.count())
			out.empty <- &Block{}
		}
		must.Fail(t, s.checkOutput(counted), ledger.ErrNotVerified, "%s: checkOutput", name)
	}
}

func TestMisuse(t *testing.T) {
	s := newTestSorter(t, &Options{Memory: MinMemory})
	must.Get(s.Writer())(t)
	for _, err := range s.Sorted() {
		if err == nil {
			t.Error("Sorted returned no error while a writer was open")
		}
	}
	s = newTestSorter(t, &Options{Memory: MinMemory})
	w := must.Get(s.Writer())(t)
	must.Fail(t, w.Add(nil, make([]byte, MinMemory)), ErrTooLarge, "Add of a record as large as the memory")
	must.Fail(t, w.Add(nil, nil), ErrTooLarge, "Add of the next record")
	must.Fail(t, w.Close(), ErrTooLarge, "Close")
	for _, o := range []Options{{Memory: 1}, {Threads: -1}} {
		if _, err := New(t.Context(), &o); err == nil {
			t.Errorf("New accepted %+v", o)
		}
	}
	s = newTestSorter(t, &Options{})
	checkSorted(t, s, nil)
	for _, err := range s.Sorted() {
		if err == nil {
			t.Error("the second Sorted returned no error")
		}
	}
}
