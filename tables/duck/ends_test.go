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

// asked is a context that ends when it is asked for the nth time whether it has.
type asked struct {
	context.Context
	cancel context.CancelFunc
	left   *atomic.Int64
}

func (a asked) Err() error {
	if a.left.Add(-1) == 0 {
		a.cancel()
	}
	return a.Context.Err()
}

// TestEndsLeaveNothing ends queries in all ways, and at each step. A single one may
// run at a time, so whatever keeps its place would stop those after it; and no file
// of the table may be held at the end.
func TestEndsLeaveNothing(t *testing.T) {
	s := newStore(t, &duck.Options{Queries: 1})
	put(t, s, "b", "t", numbers(0, 10))
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	put(t, s, "b", "t", numbers(10, 20))
	fail := func(ctx context.Context, sql string) {
		t.Helper()
		r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
		if err == nil {
			for r.Next() {
			}
			err = r.Err()
			r.Release()
			r.Release() // once too often
		}
		if err == nil {
			t.Errorf("%s: no error", sql)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, sql := range []string{
		"SELECT * FROM t, nothere", "SELECT k FROM", "SELECT nothere FROM t", "SELECT ? FROM t", "DELETE FROM t", "SELECT * FROM t, b.t AS u, nowhere.t",
		"SELECT CASE WHEN range < 100000 THEN '1' ELSE 'x' END::INT FROM t, range(200000)", "SELECT sum(9223372036854775807) FROM t",
	} {
		fail(ctx, sql)
		if d, err := s.Describe(ctx, sql, &tables.QueryOptions{Bucket: "b"}); err == nil && d == nil {
			t.Errorf("%s: no description", sql)
		}
	}
	ended := 0
	for n := int64(1); n < 100; n++ {
		one, cancel := context.WithCancel(ctx)
		left := &atomic.Int64{}
		left.Store(n)
		put(t, s, "b", "t", numbers(0, 1)) // so the tail is written anew
		r, err := s.Query(asked{one, cancel, left}, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"})
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
		if ended++; !errors.Is(err, context.Canceled) {
			t.Errorf("ended at step %d: %v", n, err)
		}
	}
	if ended < 3 {
		t.Errorf("only %d steps", ended)
	}
	for _, read := range []int{0, 1} { // and released
		r, err := s.Query(ctx, "SELECT * FROM t, range(20000)", &tables.QueryOptions{Bucket: "b"})
		if err != nil {
			t.Fatal(err)
		}
		for range read {
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
			t.Errorf("%s is held by nobody, and there", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
