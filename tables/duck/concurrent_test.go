//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// TestQueriesDuringWrites checks that queries see only whole puts while rows are put, folded, compacted
// and expired. Each put has ten rows, with consecutive numbers.
func TestQueriesDuringWrites(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	loop := func(f func(i int64) error) {
		group.Go(func() {
			for i := int64(1); ctx.Err() == nil; i++ {
				if err := f(i); err != nil && ctx.Err() == nil && !errors.Is(err, tables.ErrConflict) {
					t.Error(err)
					stop()
				}
			}
		})
	}
	loop(func(i int64) error {
		put(t, s, "b", "t", numbers(10*i, 10*i+10))
		return nil
	})
	loop(func(i int64) error {
		o := &tables.MaintainOptions{Grace: -1} // unused files remain only while a query reads them
		if _, err := s.Fold(ctx, o); err != nil {
			return err
		}
		if i%3 != 0 {
			return nil
		}
		if _, err := s.Compact(ctx, o); err != nil {
			return err
		}
		_, err := s.Expire(ctx, o)
		return err
	})
	for range 3 {
		loop(func(i int64) error {
			r, err := s.Query(ctx, "SELECT count(*), sum(k), max(k) FROM b.t", nil)
			if err != nil {
				return err
			}
			defer r.Release()
			for r.Next() {
				n := r.RecordBatch().Column(0).ValueStr(0)
				var rows int64
				if _, err := fmt.Sscan(n, &rows); err != nil {
					return err
				}
				got := n + "|" + r.RecordBatch().Column(1).ValueStr(0) + "|" + r.RecordBatch().Column(2).ValueStr(0)
				if want := fmt.Sprintf("%d|%d|%d", rows, rows*(rows-1)/2, rows-1); rows%10 != 0 || got != want {
					return fmt.Errorf("got %s, want %s and complete puts", got, want)
				}
			}
			return r.Err()
		})
	}
	loop(func(i int64) error { // releases a reader before its end, while its table changes
		r, err := s.Query(ctx, "SELECT t.k FROM b.t, range(3000)", nil)
		if err != nil {
			return err
		}
		r.Next()
		time.Sleep(20 * time.Millisecond)
		for n := 0; n < 3 && r.Next(); n++ {
		}
		err = r.Err()
		r.Release()
		return err
	})
}

func TestConcurrentQueries(t *testing.T) {
	s := newStore(t, &duck.Options{Queries: 1})
	r, err := s.Query(t.Context(), "SELECT * FROM range(100000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second query: error = %v, want it to wait until its deadline", err)
	}
	r.Release() // released before its end
	expect(t, s, "SELECT 1", nil, "1")
}
