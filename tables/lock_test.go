package tables_test

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

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestChunks(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(5) {
		tabletest.Put(t, b, "a", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
	}
	table := b.Table("a")
	for rows, want := range map[int64]string{1: "", 7: "[7 7 7 7 7 7 7 1]", 10: "[10 10 10 10 10]", 25: "[25 25]", 49: "[49 1]", 1000: "[50]"} {
		r, err := table.Scan(t.Context(), &tables.ScanOptions{ChunkRows: rows})
		tabletest.Succeed(t, err)
		var sizes, got []int64
		for r.Next() {
			sizes = append(sizes, r.RecordBatch().NumRows())
			got = append(got, r.RecordBatch().Column(0).(*array.Int64).Int64Values()...)
		}
		r.Release()
		if r.Err() != nil || !slices.Equal(got, tabletest.Sequence(0, 50)) || want != "" && fmt.Sprint(sizes) != want {
			t.Errorf("ChunkRows %d: got chunks of %v rows, want %s; rows %v; error %v", rows, sizes, want, got, r.Err())
		}
	}
	if _, err := table.Scan(t.Context(), &tables.ScanOptions{ChunkRows: -1}); err == nil {
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
		s := tabletest.Open(t, dir, &tables.Options{NoTail: true})
		for range 4 {
			workers.Go(func() {
				for range 20 {
					l, err := s.Bucket("b").Table("a").Lock(t.Context())
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
	s := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	l, err := s.Bucket("b").Table("a").Lock(t.Context())
	tabletest.Succeed(t, err)
	otherLock, err := s.Bucket("").Table("a").Lock(t.Context())
	tabletest.Succeed(t, err)
	tabletest.Succeed(t, otherLock.Unlock())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Bucket("b").Table("a").Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock error = %v, want context.DeadlineExceeded", err)
	}
	tabletest.Succeed(t, l.Unlock())
}
