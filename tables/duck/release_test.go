//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

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
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	put(t, s, "b", "t", numbers(10, 20))
	expectFailure := func(ctx context.Context, sql string) {
		t.Helper()
		r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
		if err == nil {
			for r.Next() {
			}
			err = r.Err()
			r.Release()
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
			for r.Next() {
			}
			err = r.Err()
			r.Release()
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
		r, err := s.Query(ctx, "SELECT * FROM t, range(20000)", &tables.QueryOptions{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		for range batchesToRead {
			r.Next()
		}
		r.Release()
	}
	if err := s.Bucket("b").Delete(ctx, "t"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(s.Dir(), func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".parquet") {
			t.Errorf("the unused file %s still exists", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
