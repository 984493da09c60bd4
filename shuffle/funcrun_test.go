package shuffle

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// readRun writes a run and reads it back.
func readRun(t *testing.T, fsys vfs.FS) (n int, err error) {
	t.Helper()
	temp, err := tempdir.New([]string{t.TempDir()}, fsys)
	if err != nil {
		t.Fatal(err)
	}
	r, err := spill.Create(temp, "records", funcBlock)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(r.Close(), temp.Close()); err != nil {
			t.Error(err)
		}
	}()
	codec, err := DefaultCodec[[]byte]()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("record"), 5000)
	encoded, err := codec.Encode(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := addToRun(r, encoded); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	for c := (&funcCursor[[]byte]{codec: codec, run: r}); ; n++ {
		if more, err := c.next(); err != nil || !more {
			return n, err
		}
		if !bytes.Equal(c.v, want) {
			t.Errorf("record %d differs from the record that was added", n)
		}
	}
}

// TestFuncRunBitRot checks that a flipped bit in a run causes an error.
func TestFuncRunBitRot(t *testing.T) {
	fsys := &vfstest.Flip{}
	if n, err := readRun(t, fsys); err != nil || n != 10 {
		t.Fatalf("read %d records with error %v, want 10", n, err)
	}
	for target := 1; target <= fsys.Calls; target++ {
		var corrupt *partd.CorruptError
		if _, err := readRun(t, &vfstest.Flip{Target: target}); !errors.As(err, &corrupt) {
			t.Errorf("flipped a bit in read %d of %d: error = %v, want a CorruptError", target, fsys.Calls, err)
		}
	}
}

// TestOpenRuns checks that a FuncSorter keeps a limited number of files open, even with many runs.
func TestOpenRuns(t *testing.T) {
	o := &Options[[]byte]{Memory: 8 << 20}
	s, err := NewFuncSorter(t.Context(), bytes.Compare, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Feed()
	if err != nil {
		t.Fatal(err)
	}
	const records = 5000
	maxRuns := 0
	for i := range records {
		record := bytes.Repeat([]byte{byte(i * 7)}, 20_000)
		if err := f.Add(record); err != nil {
			t.Fatal(err)
		}
		maxRuns = max(maxRuns, len(s.runs))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	n, last := 0, []byte(nil)
	for v, err := range s.Sorted() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; bytes.Compare(last, v) > 0 {
			t.Fatalf("record %d is out of order", n)
		}
		last = v
	}
	if n != records || maxRuns > 2*s.fanIn {
		t.Errorf("read %d records, want %d; up to %d files were open, but at most %d are merged at a time", n, records, maxRuns, s.fanIn)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestEarlyMergesWriteLittle checks that merging runs during feeding does not write records too often.
func TestEarlyMergesWriteLittle(t *testing.T) {
	s, err := NewFuncSorter(t.Context(), bytes.Compare, &Options[[]byte]{Memory: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.limit = 64 << 10 // write many small runs
	f, err := s.Feed()
	if err != nil {
		t.Fatal(err)
	}
	const records, size = 60_000, 1000
	for i := range records {
		if err := f.Add(bytes.Repeat([]byte{byte(i * 7)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range s.Sorted() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if written := s.Stats().Spilled / (records * size); n != records || written > 6 {
		t.Errorf("read %d records, want %d; each was written %d times, want at most 6", n, records, written)
	}
}
