package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd"
)

// shakyTail fails some appends, with or without applying them.
type shakyTail struct {
	*memTail
	n int
}

var errShaky = errors.New("shaky")

func (s *shakyTail) Append(ctx context.Context, entries ...partd.Entry) error {
	s.n++
	switch s.n % 4 {
	case 1:
		return errors.Join(s.memTail.Append(ctx, entries...), fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, errShaky))
	case 2:
		return fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, errShaky)
	case 3:
		return errShaky
	}
	return s.memTail.Append(ctx, entries...)
}

// TestUnknownOutcome retries puts until they are acknowledged: their rows must occur
// once, before and after folds, and after the store is reopened.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	tail := &shakyTail{memTail: &memTail{values: map[string][]byte{}, around: func() {}}, n: 3}
	dir, o := t.TempDir(), &Options{Tail: tail, FoldAge: -1}
	s := mustOpen(t, dir, o)
	b := s.Bucket("")
	mustPut(t, b, "a", PutError, 0)
	retries := 0
	for n := range 10 { // tables that do not exist yet
		name := fmt.Sprint("new ", n)
		for {
			_, err := b.Table(name).Put(t.Context(), rowsOf(1, 2), PutAppend, nil)
			if err == nil {
				break
			}
			if _, exists, e := read(t.Context(), b, name); !errors.Is(err, errShaky) || exists || e != nil {
				t.Fatalf("Put error = %v, want errShaky; then the table exists: %v, error %v; want it missing", err, exists, e)
			}
			retries++
		}
		wantRows(t, b, name, 1, 2)
	}
	for n := int64(1); n < 30; n++ {
		for tail.n += int(n) % 3; ; retries++ {
			_, err := b.Table("a").Put(t.Context(), rowsOf(n), PutAppend, &PutOptions{ID: fmt.Sprint(n)})
			if err == nil {
				break
			}
			if !errors.Is(err, errShaky) {
				t.Fatalf("Put error = %v, want errShaky", err)
			}
			got, _, err := read(t.Context(), b, "a")
			if err != nil || !slices.Equal(got, sequence(0, n)) && !slices.Equal(got, sequence(0, n+1)) {
				t.Fatalf("read rows %v, error %v; want 0 to %d, with or without the last", got, err, n)
			}
		}
		wantRows(t, b, "a", sequence(0, n+1)...)
		if n%5 == 0 {
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if retries < 20 {
		t.Fatalf("only %d puts were retried, want at least 20", retries)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b = mustOpen(t, dir, o).Bucket("")
	wantRows(t, b, "a", sequence(0, 30)...)
}

// syncedTail counts syncs, and fails the sync with the number failAt.
type syncedTail struct {
	*memTail
	syncs, failAt int
}

func (s *syncedTail) Sync(context.Context) error {
	if s.syncs++; s.syncs == s.failAt {
		return errShaky
	}
	return nil
}

// TestSync checks that a tail from Options.Tail is synced before an append is acknowledged.
func TestSync(t *testing.T) {
	t.Parallel()
	tail := &syncedTail{memTail: &memTail{values: map[string][]byte{}, around: func() {}}}
	b := mustOpen(t, t.TempDir(), &Options{Tail: tail, Sync: true, FoldAge: -1}).Bucket("")
	mustPut(t, b, "a", PutAppend, 0)
	before := tail.syncs
	mustPut(t, b, "a", PutAppend, 1)
	if tail.syncs != before+1 {
		t.Fatalf("an append made %d syncs, want 1", tail.syncs-before)
	}
	for range 2 { // a retry that is recognized by its ID must also be durable
		tail.failAt = tail.syncs + 1
		if _, err := b.Table("a").Put(t.Context(), rowsOf(2), PutAppend, &PutOptions{ID: "x"}); !errors.Is(err, errShaky) {
			t.Fatalf("Put error = %v, want errShaky", err)
		}
	}
	if _, err := b.Table("a").Put(t.Context(), rowsOf(2), PutAppend, &PutOptions{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	wantRows(t, b, "a", 0, 1, 2)
	if _, err := Open(t.Context(), t.TempDir(), &Options{Tail: partd.NewDict(), Sync: true}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("Open with Sync and a tail that cannot sync: error = %v, want errors.ErrUnsupported", err)
	}
}
