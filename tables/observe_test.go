package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/filter"
)

type observerKey struct{}

// notes is an Observer that records operations and outcomes, without durations.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) Begin(ctx context.Context, o Operation) (context.Context, func(Outcome)) {
	within, _ := ctx.Value(observerKey{}).(string)
	ended := false
	return context.WithValue(ctx, observerKey{}, o.Name), func(out Outcome) {
		n.mu.Lock()
		defer n.mu.Unlock()
		text := fmt.Sprintf("%s %q %q within %q: %d rows", o.Name, o.Bucket, o.Table, within, out.Rows)
		if out.Bytes > 0 {
			text += " with bytes"
		}
		if out.Err != nil {
			text += ", failed"
		}
		if out.Duration <= 0 || ended {
			text = "a bad end of " + text
		}
		ended = true
		n.all = append(n.all, text)
	}
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.all, want) {
		t.Errorf("the Observer was told %q, want %q", n.all, want)
	}
	n.all = nil
}

// An Observer receives each operation once, with its outcome.
func TestObserver(t *testing.T) {
	ctx, n := t.Context(), &notes{}
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1, Observer: n})
	b := s.Bucket("B")
	mustPut(t, b, "t", PutAppend, 1, 2, 3)
	n.want(t, `put "B" "t" within "": 3 rows with bytes`)
	if _, err := b.Put(ctx, "t", rowsOf(1), PutError, nil); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	n.want(t, `put "B" "t" within "": 1 rows with bytes, failed`)
	wantRows(t, b, "t", 1, 2, 3)
	n.want(t, `scan "B" "t" within "": 3 rows with bytes`)
	table, err := b.Table(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Scan(ctx, &ScanOptions{Columns: []string{"no"}}); err == nil {
		t.Fatal("a column that there is not was read")
	}
	n.want(t, `scan "B" "t" within "": 0 rows, failed`)
	r, err := table.Scan(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Release() // nothing was read
	n.want(t, `scan "B" "t" within "": 0 rows`)
	where, err := filter.Parse("n = 2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteRows(ctx, "t", where); err != nil {
		t.Fatal(err)
	}
	n.want(t, `fold "B" "t" within "rewrite": 3 rows`, `rewrite "B" "t" within "": 1 rows`)
	if err := s.Update(ctx, func(*Txn) error { return context.Canceled }); err == nil {
		t.Fatal("it did not fail")
	}
	n.want(t, `update "" "" within "": 0 rows, failed`)
	if _, err := s.Compact(ctx, nil); err != nil {
		t.Fatal(err)
	}
	n.want(t, `compact "B" "t" within "": 0 rows`)
	if _, err := s.Query(ctx, "select 1", nil); err == nil {
		t.Fatal("there is no engine")
	}
	n.want(t)
}

// An Observer also receives folds in the background.
func TestObserverOfBackground(t *testing.T) {
	n := &notes{}
	s := mustOpen(t, t.TempDir(), &Options{FoldAge: 10 * time.Millisecond, Observer: n})
	mustPut(t, s.Bucket(""), "t", PutAppend, 1)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n.mu.Lock()
		found := slices.Contains(n.all, `fold "" "t" within "": 1 rows`)
		n.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(end) {
			t.Fatal(n.all)
		}
	}
}

// Without an Observer, observing allocates nothing.
func TestNoObserver(t *testing.T) {
	s := mustOpen(t, t.TempDir(), nil)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, end := s.begin(ctx, "put", "b", "t")
		end(Outcome{})
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
