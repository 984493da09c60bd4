//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
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
	r := must.Get(s.Query(t.Context(), "SELECT * FROM range(100000)", nil))(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	must.Fail(t, must.Err(s.Query(ctx, "SELECT 1", nil)), context.DeadlineExceeded, "second query")
	r.Release() // released before its end
	expect(t, s, "SELECT 1", nil, "1")
}

// expiringContext is a context that ends when its Err method is called for the nth time.
type expiringContext struct {
	context.Context
	cancel    context.CancelFunc
	callsLeft *atomic.Int64
}

func (a expiringContext) Err() error {
	if a.callsLeft.Add(-1) == 0 {
		a.cancel()
	}
	return a.Context.Err()
}

// TestEndedQueriesReleaseAll runs queries that fail, are canceled at each step, or are released early. Only one query
// can run at a time, so a slot that is not returned would block the next query. At the end, no file of
// the table may be in use.
func TestEndedQueriesReleaseAll(t *testing.T) {
	s := newStore(t, &duck.Options{Queries: 1})
	put(t, s, "b", "t", numbers(0, 10))
	fold(t, s)
	put(t, s, "b", "t", numbers(10, 20))
	expectFailure := func(ctx context.Context, sql string) {
		t.Helper()
		r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
		if err == nil {
			_, err = tabletest.CountRows(r)
			r.Release() // releasing twice is allowed
		}
		if err == nil {
			t.Errorf("%s succeeded, want an error", sql)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, sql := range []string{
		"SELECT * FROM t, nothere", "SELECT k FROM", "SELECT nothere FROM t", "SELECT ? FROM t", "DELETE FROM t", "SELECT * FROM t, b.t AS u, nowhere.t",
		"SELECT CASE WHEN range < 100000 THEN '1' ELSE 'x' END::INT FROM t, range(200000)", "SELECT sum(9223372036854775807) FROM t",
	} {
		expectFailure(ctx, sql)
		if d, err := s.Describe(ctx, sql, &tables.QueryOptions{Bucket: "b"}); err == nil && d == nil {
			t.Errorf("Describe(%s) = nil, nil; want a result or an error", sql)
		}
	}
	canceledCount := 0
	for n := int64(1); n < 100; n++ {
		inner, cancel := context.WithCancel(ctx)
		callsLeft := &atomic.Int64{}
		callsLeft.Store(n)
		put(t, s, "b", "t", numbers(0, 1)) // changes the tail, so the query writes it to a file again
		r, err := s.Query(expiringContext{inner, cancel, callsLeft}, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"})
		if err == nil {
			_, err = tabletest.CountRows(r)
		}
		cancel()
		if err == nil {
			break
		}
		if canceledCount++; !errors.Is(err, context.Canceled) {
			t.Errorf("canceled at step %d: error = %v, want context.Canceled", n, err)
		}
	}
	if canceledCount < 3 {
		t.Errorf("only %d queries were canceled, want at least 3", canceledCount)
	}
	for _, batchesToRead := range []int{0, 1} { // batches to read before the release
		r := must.Get(s.Query(ctx, "SELECT * FROM t, range(20000)", &tables.QueryOptions{Bucket: "b"}))(t)
		for range batchesToRead {
			r.Next()
		}
		r.Release()
	}
	must.Do(t, s.Bucket("b").Delete(ctx, "t"))
	must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1}))(t)
	if left := tabletest.Paths(t, s.Dir(), ".parquet"); len(left) > 0 {
		t.Errorf("the unused files %s still exist", left)
	}
}
