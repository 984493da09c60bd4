package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
)

func TestPutAllAndScanAll(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), nil)
	b := s.Bucket("b")
	var started, done atomic.Int64
	puts := func(yield func(TablePut) bool) {
		for i := range int64(30) {
			if n := started.Add(1) - done.Load(); n > 3 {
				t.Errorf("%d puts are in progress, want at most 3", n)
			}
			o := &PutOptions{}
			if !yield(TablePut{fmt.Sprint("t", i), &countedReader{rowsOf(i, i+1), &done}, PutAppend, o}) {
				return
			}
		}
	}
	mustSucceed(t, b.PutAll(t.Context(), puts, 3))
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprint("t", i))
	}
	var sum, readers, maxReaders atomic.Int64
	mustSucceed(t, b.ScanAll(t.Context(), names, nil, 2, func(_ string, r array.RecordReader) error {
		maxReaders.Store(max(maxReaders.Load(), readers.Add(1)))
		defer readers.Add(-1)
		for r.Next() {
			sum.Add(r.RecordBatch().NumRows())
		}
		return r.Err()
	}))
	if sum.Load() != 60 || maxReaders.Load() > 2 {
		t.Errorf("ScanAll read %d rows with up to %d readers, want 60 rows with at most 2 readers", sum.Load(), maxReaders.Load())
	}
	err := b.PutAll(t.Context(), slices.Values([]TablePut{{"t1", rowsOf(1), PutError, nil}, {"new", rowsOf(1), PutError, nil}}), 1)
	if !errors.Is(err, ErrExists) {
		t.Errorf("PutAll error = %v, want ErrExists", err)
	}
	if err := b.ScanAll(t.Context(), []string{"t1", "nope"}, nil, 0, func(string, array.RecordReader) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("ScanAll error = %v, want ErrNotFound", err)
	}
}

// countedReader increments done when it has been read to its end.
type countedReader struct {
	array.RecordReader
	done *atomic.Int64
}

func (c *countedReader) Next() bool {
	if c.RecordReader.Next() {
		return true
	}
	c.done.Add(1)
	return false
}

func TestChunks(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), &Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(5) {
		mustPut(t, b, "a", PutAppend, sequence(10*i, 10)...)
	}
	table, err := b.Table(t.Context(), "a")
	mustSucceed(t, err)
	for rows, want := range map[int64]string{1: "", 7: "[7 7 7 7 7 7 7 1]", 10: "[10 10 10 10 10]", 25: "[25 25]", 49: "[49 1]", 1000: "[50]"} {
		r, err := table.Scan(t.Context(), &ScanOptions{ChunkRows: rows})
		mustSucceed(t, err)
		var sizes, got []int64
		for r.Next() {
			sizes = append(sizes, r.RecordBatch().NumRows())
			got = append(got, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
		}
		r.Release()
		if r.Err() != nil || !slices.Equal(got, sequence(0, 50)) || want != "" && fmt.Sprint(sizes) != want {
			t.Errorf("ChunkRows %d: got chunks of %v rows, want %s; rows %v; error %v", rows, sizes, want, got, r.Err())
		}
	}
	if _, err := table.Scan(t.Context(), &ScanOptions{ChunkRows: -1}); err == nil {
		t.Error("Scan with ChunkRows -1 succeeded, want an error")
	}
}

// TestLock checks that a lock has only one holder at a time among the goroutines of two Stores on one
// directory. The two Stores simulate two processes.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var holders atomic.Int64
	var workers sync.WaitGroup
	for range 2 {
		s := mustOpen(t, dir, &Options{NoTail: true})
		for range 4 {
			workers.Go(func() {
				for range 20 {
					l, err := s.Bucket("b").Lock(t.Context(), "a")
					if err != nil {
						t.Error(err)
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d goroutines hold the lock, want 1", n)
					}
					holders.Add(-1)
					if err := errors.Join(l.Unlock(), l.Unlock()); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	workers.Wait()
	s := mustOpen(t, dir, &Options{NoTail: true})
	l, err := s.Bucket("b").Lock(t.Context(), "a")
	mustSucceed(t, err)
	otherLock, err := s.Bucket("").Lock(t.Context(), "a")
	mustSucceed(t, err)
	mustSucceed(t, otherLock.Unlock())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Bucket("b").Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock error = %v, want context.DeadlineExceeded", err)
	}
	mustSucceed(t, l.Unlock())
}
