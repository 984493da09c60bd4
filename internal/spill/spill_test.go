package spill

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

func newTemp(t *testing.T, fsys vfs.FS) *tempdir.Set {
	t.Helper()
	temp, err := tempdir.New([]string{t.TempDir()}, &tempdir.Options{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := temp.Close(); err != nil {
			t.Error(err)
		}
	})
	return temp
}

// write writes records of lengths, and returns them together.
func write(t *testing.T, f *File, lengths ...int) (all []byte) {
	t.Helper()
	for i, n := range lengths {
		if err := f.Room(n); err != nil {
			t.Fatal(err)
		}
		record := bytes.Repeat([]byte{byte('a' + i)}, n)
		f.Buf = append(f.Buf, record...)
		all = append(all, record...)
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A long record has a block of its own, and those after it are as usual; blocks
// can be read one by one, or many at once.
func TestBlocks(t *testing.T) {
	f, err := Create(newTemp(t, nil), "records", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, lengths := range [][]int{{60, 30, 60, 1000, 60, 30, 60}, {10}, {}} {
		all := write(t, f, lengths...)
		want := map[int][]int{7: {90, 60, 1000, 90, 60}, 1: {10}, 0: nil}[len(lengths)]
		if f.Blocks() != len(want) || f.Size() != int64(len(all)) {
			t.Fatalf("%d blocks, %d bytes", f.Blocks(), f.Size())
		}
		at := 0
		for i, n := range want {
			if b, err := f.Read(nil, i, 1); err != nil || !bytes.Equal(b, all[at:at+n]) {
				t.Errorf("block %d: %q, %v", i, b, err)
			}
			if b, err := f.Read(nil, i, len(want)-i); err != nil || !bytes.Equal(b, all[at:]) {
				t.Errorf("from block %d: %q, %v", i, b, err)
			}
			at += n
		}
		f.Reset()
	}
	if f.Longest() != 1000 {
		t.Errorf("the longest has %d bytes", f.Longest())
	}
	if err := f.Room(partd.MaxValueLen + 1); !errors.Is(err, partd.ErrTooLarge) {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Blocks that nobody reads any more give their disk back; those behind them are
// as they were.
func TestDrop(t *testing.T) {
	file, err := vfstest.NewMem().OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	f := New(file, "records", 300_000)
	defer f.Close()
	all := write(t, f, slices.Repeat([]int{300_000}, 10)...)
	before, err := f.file.Info()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 4, 4, 3, 9, 10} {
		f.Drop(n)
		info, err := f.file.Info()
		if err != nil {
			t.Fatal(err)
		}
		given := map[int]int64{0: 0, 1: 0, 4: 1 << 20, 3: 1 << 20, 9: 2 << 20, 10: 2 << 20}[n]
		if before.Disk-info.Disk != given || info.Size != before.Size {
			t.Errorf("after %d blocks: %d bytes were given back, want %d; the size is %d", n, before.Disk-info.Disk, given, info.Size)
		}
		if b, err := f.Read(nil, 9, 1); err != nil || !bytes.Equal(b, all[9*300_000:]) {
			t.Errorf("after %d blocks the last one is another: %v", n, err)
		}
	}
	f.Reset()
	write(t, f, slices.Repeat([]int{300_000}, 10)...)
	f.Drop(4)
	if info, err := f.file.Info(); err != nil || before.Disk-info.Disk != 1<<20 {
		t.Errorf("of a file that is used again %d bytes were given back: %v", before.Disk-info.Disk, err)
	}
}

// A bit that comes back wrong is an error that says in which file and where.
func TestDamaged(t *testing.T) {
	f, err := Create(newTemp(t, &vfstest.Flip{At: 2}), "records", 100)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(t, f, 80, 80, 80)
	if _, err := f.Read(nil, 0, 1); err != nil {
		t.Fatal(err)
	}
	var corrupt *partd.CorruptError
	_, err = f.Read(nil, 1, 2)
	if !errors.As(err, &corrupt) || !errors.Is(err, ErrDamaged) || corrupt.Path == "" || corrupt.Offset != 80 && corrupt.Offset != 160 {
		t.Error(err)
	}
}

// The files that are merged are neighbours, and the shortest.
func TestShortest(t *testing.T) {
	files := []*File{{size: 5}, {size: 1}, {size: 9}, {size: 2}, {size: 3}, {size: 4}}
	for n, want := range []int{1: 1, 2: 3, 3: 3, 4: 1, 5: 1, 6: 0} {
		if got := Shortest(files, n); n > 0 && got != want {
			t.Errorf("%d of them: from %d on, want %d", n, got, want)
		}
	}
}

func TestEngine(t *testing.T) {
	for _, e := range []*Engine{{Memory: MinMemory - 1}, {Threads: -1}, {Memory: 2 * MinMemory, Threads: 3}} {
		if err := e.Start(t.Context(), "testing", 0); err == nil {
			t.Errorf("%d bytes and %d threads are taken", e.Memory, e.Threads)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	e := &Engine{Temp: newTemp(t, nil)}
	if err := e.Start(ctx, "testing", 0); err != nil || e.Memory != DefaultMemory || e.Threads < 1 {
		t.Fatal(e.Memory, e.Threads, err)
	}
	e.Tasks.Go(func() { <-e.Ctx.Done() })
	cancel(stopped)
	if err := e.Why(); !errors.Is(err, stopped) {
		t.Error(err)
	}
	if err := e.Fail(errors.New("another")); !errors.Is(err, stopped) {
		t.Error(err)
	}
	released := 0
	for range 2 {
		if err := e.Close(func() error { released++; return nil }); err != nil {
			t.Error(err)
		}
	}
	if released != 1 {
		t.Errorf("released %d times", released)
	}
}

// length is a file of so many bytes.
type length int64

func (l length) Size() int64 { return int64(l) }

// merged joins n neighbours, the shortest ones, and adds the bytes that this writes.
func merged(files []length, n int, written *int64) []length {
	at := Shortest(files, n)
	sum := length(0)
	for _, f := range files[at : at+n] {
		sum += f
	}
	*written += int64(sum)
	return slices.Replace(files, at, at+n, sum)
}

// What is merged early writes at most two and a half times of what is written where all is merged at
// the end, however much there is: no file is written again with each few that follow.
func TestEarly(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, atOnce := range []int{2, 8, 16, 50, 600} {
		for _, many := range []int{100, 1000, 10_000} {
			for _, spread := range []int{1, 1000} {
				var all, early []length
				var size, atEnd, written int64
				most := 0
				finish := func(files []length, written *int64) {
					for len(files) > atOnce {
						files = merged(files, min(atOnce, len(files)-atOnce+1), written)
					}
				}
				for range many {
					f := length(1000 + random.IntN(spread))
					size += int64(f)
					all, early = append(all, f), append(early, f)
					most = max(most, len(early))
					if n := Early(early, atOnce); n > 0 {
						early = merged(early, n, &written)
					}
				}
				finish(all, &atEnd)
				finish(early, &written)
				if 2*(size+written) > 5*(size+atEnd) || most > MostRuns || atOnce == 16 && most > 3*atOnce {
					t.Errorf("%d at once of %d of %d or more: %d files wait, and %d bytes are written, %d at the end", atOnce, many, spread, most, size+written, size+atEnd)
				}
			}
		}
	}
}
