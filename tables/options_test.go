package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

type observerKey struct{}

// recordingObserver is an Observer that records operations and outcomes, without durations.
type recordingObserver struct {
	mu         sync.Mutex
	operations []string
}

func (n *recordingObserver) Begin(ctx context.Context, o tables.Operation) (context.Context, func(tables.Outcome)) {
	parent, _ := ctx.Value(observerKey{}).(string)
	ended := false
	return context.WithValue(ctx, observerKey{}, o.Name), func(out tables.Outcome) {
		n.mu.Lock()
		defer n.mu.Unlock()
		text := fmt.Sprintf("%s %q %q within %q: %d rows", o.Name, o.Bucket, o.Table, parent, out.Rows)
		if out.Bytes > 0 {
			text += " with bytes"
		}
		if out.Err != nil {
			text += ", failed"
		}
		if out.Duration <= 0 || ended {
			text = "repeated end, or no duration: " + text
		}
		ended = true
		n.operations = append(n.operations, text)
	}
}

func (n *recordingObserver) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.operations, want) {
		t.Errorf("Observer received %q, want %q", n.operations, want)
	}
	n.operations = nil
}

// TestObserver checks that an Observer receives each operation once, with its outcome.
func TestObserver(t *testing.T) {
	ctx, n := t.Context(), &recordingObserver{}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, Observer: n})
	b := s.Bucket("B")
	tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
	n.want(t, `put "B" "t" within "": 3 rows with bytes`)
	if _, err := b.Table("t").Put(ctx, tabletest.Rows(1), tables.PutError, nil); !errors.Is(err, tables.ErrExists) {
		t.Fatalf("Put error = %v, want ErrExists", err)
	}
	n.want(t, `put "B" "t" within "": 1 rows with bytes, failed`)
	tabletest.WantRows(t, b, "t", 1, 2, 3)
	n.want(t, `scan "B" "t" within "": 3 rows with bytes`)
	table := b.Table("t")
	if _, err := table.Scan(ctx, &tables.ScanOptions{Columns: []string{"no"}}); err == nil {
		t.Fatal("Scan of a missing column succeeded, want an error")
	}
	n.want(t, `scan "B" "t" within "": 0 rows, failed`)
	r := must.Get(table.Scan(ctx, nil))(t)
	r.Release() // without reading a row
	n.want(t, `scan "B" "t" within "": 0 rows`)
	where := must.Get(filter.Parse("n = 2"))(t)
	must.Get(b.Table("t").DeleteRows(ctx, where))(t)
	n.want(t, `fold "B" "t" within "rewrite": 3 rows`, `rewrite "B" "t" within "": 1 rows`)
	if err := s.Update(ctx, func(*tables.Txn) error { return context.Canceled }); err == nil {
		t.Fatal("Update succeeded, want the error from its function")
	}
	n.want(t, `update "" "" within "": 0 rows, failed`)
	tabletest.Compact(t, s)
	n.want(t, `compact "B" "t" within "": 0 rows`)
	must.Fail(t, must.Err(s.Query(ctx, "select 1", nil)), errors.ErrUnsupported, "Query without an engine")
	must.Fail(t, must.Err(s.Describe(ctx, "select 1", nil)), errors.ErrUnsupported, "Describe without an engine")
	n.want(t)
}

func TestObserverOfBackgroundFolds(t *testing.T) {
	n := &recordingObserver{}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: 10 * time.Millisecond, Observer: n})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n.mu.Lock()
		hasFold := slices.Contains(n.operations, `fold "" "t" within "": 1 rows`)
		n.mu.Unlock()
		if hasFold {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the Observer received no fold within a minute, only %q", n.operations)
		}
	}
}

// TestFoldsAgain checks that a table whose tail was folded in the background is folded again when the tail has grown.
func TestFoldsAgain(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: 1500, FoldAge: -1})
	const puts = 6 // number of puts whose rows take more than FoldBytes, but less than the size at which Put itself folds
	for n := range int64(2 * puts) {
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, n)
		if n%puts != puts-1 {
			continue
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			l, err := s.Catalog().Get(t.Context(), tables.DefaultNamespace, "t")
			if err == nil && l.Rows > n/puts*puts {
				break
			}
			if err != nil || time.Now().After(end) {
				t.Fatalf("after put %d, the catalog shows %d rows in files, error %v", n, l.Rows, err)
			}
		}
	}
}

// TestNoObserver checks that operations allocate nothing for observation without an Observer.
func TestNoObserver(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, end := s.Opts().Begin(ctx, "put", "b", "t")
		end(tables.Outcome{})
	}); n > 0 {
		t.Errorf("begin and end without an Observer made %v allocations, want 0", n)
	}
}
