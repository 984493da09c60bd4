package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// shakyTail fails some appends, with or without applying them.
type shakyTail struct {
	*tabletest.MemTail
	n int
}

func (s *shakyTail) Append(ctx context.Context, entries ...partd.Entry) error {
	s.n++
	switch s.n % 4 {
	case 1:
		return errors.Join(s.MemTail.Append(ctx, entries...), fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, tabletest.ErrShaky))
	case 2:
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, tabletest.ErrShaky)
	case 3:
		return tabletest.ErrShaky
	}
	return s.MemTail.Append(ctx, entries...)
}

// TestUnknownOutcome retries puts until they are acknowledged: their rows must occur
// once, before and after folds, and after the store is reopened.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	tail := &shakyTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, n: 3}
	dir, o := t.TempDir(), &tables.Options{Tail: tail, FoldAge: -1}
	s := tabletest.Open(t, dir, o)
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutError, 0)
	retries := 0
	for n := range 10 { // tables that do not exist yet
		name := fmt.Sprint("new ", n)
		for {
			_, err := b.Table(name).Put(t.Context(), tabletest.Rows(1, 2), tables.PutAppend, nil)
			if err == nil {
				break
			}
			if _, exists, e := tabletest.Read(t.Context(), b, name); !errors.Is(err, tabletest.ErrShaky) || exists || e != nil {
				t.Fatalf("Put error = %v, want errShaky; then the table exists: %v, error %v; want it missing", err, exists, e)
			}
			retries++
		}
		tabletest.WantRows(t, b, name, 1, 2)
	}
	for n := int64(1); n < 30; n++ {
		for tail.n += int(n) % 3; ; retries++ {
			_, err := b.Table("a").Put(t.Context(), tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(n)})
			if err == nil {
				break
			}
			if !errors.Is(err, tabletest.ErrShaky) {
				t.Fatalf("Put error = %v, want errShaky", err)
			}
			got, _, err := tabletest.Read(t.Context(), b, "a")
			if err != nil || !slices.Equal(got, tabletest.Sequence(0, n)) && !slices.Equal(got, tabletest.Sequence(0, n+1)) {
				t.Fatalf("read rows %v, error %v; want 0 to %d, with or without the last", got, err, n)
			}
		}
		tabletest.WantRows(t, b, "a", tabletest.Sequence(0, n+1)...)
		if n%5 == 0 {
			tabletest.Fold(t, s)
		}
	}
	if retries < 20 {
		t.Fatalf("only %d puts were retried, want at least 20", retries)
	}
	must.Do(t, s.Close())
	b = tabletest.Open(t, dir, o).Bucket("")
	tabletest.WantRows(t, b, "a", tabletest.Sequence(0, 30)...)
}

// TestSync checks that with Options.Sync, a retry that is recognized by its ID is also durable, and that a tail that
// cannot sync is refused.
func TestSync(t *testing.T) {
	t.Parallel()
	tail := &gatedTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	b := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: tail, Sync: true, FoldAge: -1}).Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	outcomes := make(chan error, 1)
	tail.gate.Store(&outcomes)
	for range 2 {
		outcomes <- tabletest.ErrShaky
		if _, err := b.Table("a").Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"}); !errors.Is(err, tabletest.ErrShaky) {
			t.Fatalf("Put error = %v, want errShaky", err)
		}
	}
	tail.gate.Store(nil)
	tabletest.PutRows(t, b, "a", tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"})
	tabletest.WantRows(t, b, "a", 0, 1)
	if _, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Tail: partd.NewDict(), Sync: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("Open with Sync and a tail that cannot sync: error = %v, want errors.ErrUnsupported", err)
	}
}
