package spill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func newTemp(t *testing.T, fsys vfs.FS) *tempdir.Set {
	t.Helper()
	temp := must.Get(tempdir.New([]string{t.TempDir()}, fsys))(t)
	t.Cleanup(func() { must.Do(t, temp.Close()) })
	return temp
}

// write writes records of the given lengths, and returns their concatenation.
func write(t *testing.T, f *File, lengths ...int) (all []byte) {
	t.Helper()
	for i, n := range lengths {
		must.Do(t, f.Room(n))
		record := bytes.Repeat([]byte{byte('a' + i)}, n)
		f.Buf = append(f.Buf, record...)
		all = append(all, record...)
	}
	must.Do(t, f.Finish())
	return all
}

// TestBlocks checks that a long record has its own block, and later blocks have the usual length.
func TestBlocks(t *testing.T) {
	f := must.Get(Create(newTemp(t, nil), "records", 100))(t)
	for _, lengths := range [][]int{{60, 30, 60, 1000, 60, 30, 60}, {10}, {}} {
		all := write(t, f, lengths...)
		want := map[int][]int{7: {90, 60, 1000, 90, 60}, 1: {10}, 0: nil}[len(lengths)]
		if f.Blocks() != len(want) || f.Size() != int64(len(all)) {
			t.Fatalf("the file has %d blocks and %d bytes, want %d and %d", f.Blocks(), f.Size(), len(want), len(all))
		}
		offset := 0
		for i, n := range want {
			if b, err := f.Read(nil, i, 1); err != nil || !bytes.Equal(b, all[offset:offset+n]) {
				t.Errorf("Read of block %d = %q, %v, want the written bytes", i, b, err)
			}
			if b, err := f.Read(nil, i, len(want)-i); err != nil || !bytes.Equal(b, all[offset:]) {
				t.Errorf("Read of all blocks from %d on = %q, %v, want the written bytes", i, b, err)
			}
			offset += n
		}
		r := io.LimitReader(iotest.OneByteReader(f.NewReader()), int64(len(all)+1))
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, all) {
			t.Errorf("a Reader returned %d bytes, %v, want the %d written ones", len(b), err, len(all))
		}
		f.Reset()
	}
	if f.Longest() != 1000 {
		t.Errorf("Longest = %d, want 1000", f.Longest())
	}
	if err := f.Room(partd.MaxValueLen + 1); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Room for more than MaxValueLen bytes = %v, want %v", err, partd.ErrTooLarge)
	}
	must.Do(t, f.Close())
}

// TestDrop checks that Drop frees the disk space of blocks, and keeps later ones intact.
func TestDrop(t *testing.T) {
	file := must.Get(vfstest.NewMem().OpenFile("/f", os.O_RDWR|os.O_CREATE, 0o666))(t)
	f := New(file, "records", 300_000)
	defer f.Close()
	all := write(t, f, slices.Repeat([]int{300_000}, 10)...)
	before := must.Get(f.file.Info())(t)
	for _, n := range []int{0, 1, 4, 4, 3, 9, 10} {
		f.Drop(n)
		info := must.Get(f.file.Info())(t)
		freed := map[int]int64{0: 0, 1: 0, 4: 1 << 20, 3: 1 << 20, 9: 2 << 20, 10: 2 << 20}[n]
		if before.Disk-info.Disk != freed || info.Size != before.Size {
			t.Errorf("after Drop(%d), %d bytes are freed, want %d; the size is %d", n, before.Disk-info.Disk, freed, info.Size)
		}
		if b, err := f.Read(nil, 9, 1); err != nil || !bytes.Equal(b, all[9*300_000:]) {
			t.Errorf("after Drop(%d), the last block is wrong: %v", n, err)
		}
	}
	f.Reset()
	write(t, f, slices.Repeat([]int{300_000}, 10)...)
	f.Drop(4)
	if info, err := f.file.Info(); err != nil || before.Disk-info.Disk != 1<<20 {
		t.Errorf("in a reused file, Drop(4) freed %d bytes, want 1 MiB: %v", before.Disk-info.Disk, err)
	}
}

// TestDamaged checks that the error for a flipped bit contains the file and the offset.
func TestDamaged(t *testing.T) {
	f, err := Create(newTemp(t, &vfstest.Flip{Target: 2}), "records", 100)
	must.Do(t, err)
	defer f.Close()
	write(t, f, 80, 80, 80)
	b, err := io.ReadAll(io.LimitReader(f.NewReader(), 240))
	var corrupt *partd.CorruptError
	if len(b) != 80 || !errors.As(err, &corrupt) || !errors.Is(err, ErrDamaged) || corrupt.Path == "" || corrupt.Offset != 80 {
		t.Errorf("ReadAll of a file with a damaged second block = %d bytes, %v, want 80, and an error with path and offset", len(b), err)
	}
}

// TestShortestNeighbors checks that ShortestNeighbors chooses the neighbors with the fewest bytes.
func TestShortestNeighbors(t *testing.T) {
	files := []*File{{size: 5}, {size: 1}, {size: 9}, {size: 2}, {size: 3}, {size: 4}, {size: 1}}
	for n, want := range []int{1: 1, 2: 3, 3: 4, 4: 3, 5: 1, 6: 1, 7: 0} {
		if got := ShortestNeighbors(files, n); n > 0 && got != want {
			t.Errorf("ShortestNeighbors(files, %d) = %d, want %d", n, got, want)
		}
	}
}

func TestEngine(t *testing.T) {
	for _, e := range []*Engine{{Memory: MinMemory - 1}, {Threads: -1}, {Memory: 2 * MinMemory, Threads: 3}} {
		if err := e.Start(t.Context(), "testing", 0); err == nil {
			t.Errorf("Start accepted %d bytes of memory and %d threads", e.Memory, e.Threads)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	e := &Engine{Temp: newTemp(t, nil)}
	if err := e.Start(ctx, "testing", 0); err != nil || e.Memory != DefaultMemory || e.Threads < 1 {
		t.Fatalf("Start = %v, with %d bytes of memory and %d threads, want the defaults", err, e.Memory, e.Threads)
	}
	e.Tasks.Go(func() { <-e.Ctx.Done() })
	cancel(stopped)
	if err := e.Err(); !errors.Is(err, stopped) {
		t.Error(err)
	}
	if err := e.Fail(errors.New("another")); !errors.Is(err, stopped) {
		t.Error(err)
	}
	own := new(Engine)
	must.Do(t, own.Start(t.Context(), "testing", 0))
	if err := own.Fail(stopped); !errors.Is(err, stopped) {
		t.Errorf("Fail = %v, want %v", err, stopped)
	}
	must.Do(t, own.Close(func() error { return nil }))
	if _, err := own.Temp.Create(); !errors.Is(err, tempdir.ErrClosed) {
		t.Errorf("after Close, creating a temporary file = %v, want %v", err, tempdir.ErrClosed)
	}
	released := 0
	for range 2 {
		must.Do(t, e.Close(func() error { released++; return nil }))
	}
	if released != 1 {
		t.Errorf("Close called release %d times, want once", released)
	}
}

// length represents a file by its length in bytes.
type length int64

func (l length) Size() int64 { return int64(l) }

// mergedLengths merges the n shortest neighbors, and adds the number of bytes written to *written.
func mergedLengths(files []length, n int, written *int64) []length {
	first := ShortestNeighbors(files, n)
	sum := length(0)
	for _, f := range files[first : first+n] {
		sum += f
	}
	*written += int64(sum)
	return slices.Replace(files, first, first+n, sum)
}

// TestEarlyMerge checks that early merges write at most two and a half times as many bytes as merges only at the end,
// for any number of files. Otherwise, a file could be merged again and again with a few later ones.
func TestEarlyMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, fanIn := range []int{2, 8, 16, 50, 600} {
		for _, count := range []int{100, 1000, 10_000} {
			for _, spread := range []int{1, 1000} {
				var all, early []length
				var size, writtenAtEnd, written int64
				maxFiles := 0
				finish := func(files []length, written *int64) {
					for len(files) > fanIn {
						files = mergedLengths(files, min(fanIn, len(files)-fanIn+1), written)
					}
				}
				for range count {
					f := length(1000 + random.IntN(spread))
					size += int64(f)
					all, early = append(all, f), append(early, f)
					maxFiles = max(maxFiles, len(early))
					if n := EarlyMerge(early, fanIn); n > 0 {
						early = mergedLengths(early, n, &written)
					}
				}
				finish(all, &writtenAtEnd)
				finish(early, &written)
				if 2*(size+written) > 5*(size+writtenAtEnd) || maxFiles > MaxRuns || fanIn == 16 && maxFiles > 3*fanIn {
					t.Errorf("fan-in %d, %d files, spread %d: up to %d files and %d bytes written, or %d bytes if merged at the end", fanIn, count, spread, maxFiles, size+written, size+writtenAtEnd)
				}
			}
		}
	}
}

// TestQuota checks that files share a quota and release their bytes.
func TestQuota(t *testing.T) {
	var q Quota
	create := func() vfs.File {
		f := must.Get(tempdir.Create())(t)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	w := &Writer{WriteCloser: create(), Quota: &q}
	if _, err := w.Write(make([]byte, 1000)); err != nil { // there is no limit yet
		t.Fatal(err)
	}
	q.SetLimit(1200)
	f := New(create(), "rows", 100)
	f.Quota = &q
	if _, err := f.Write(make([]byte, 350)); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Write beyond the quota = %v, want %v", err, partd.ErrTooLarge)
	}
	if n, err := w.Write(make([]byte, 350)); n != 0 || !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Write beyond the quota = %d, %v, want 0, %v", n, err, partd.ErrTooLarge)
	}
	w.Release()
	must.Get(f.Write(make([]byte, 800)))(t)
	if n := q.used.Load(); n != f.Size() || n < 700 {
		t.Errorf("the quota counts %d bytes, but the file has %d", n, f.Size())
	}
	must.Do(t, f.Close())
	if n := q.used.Load(); n != 0 {
		t.Errorf("after Close, the quota counts %d bytes, want 0", n)
	}
}
