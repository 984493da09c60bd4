package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd"
)

// shakyTail loses answers, applied or not, and appends.
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

// TestUnknownOutcome tries puts with ids again until they are acknowledged: each
// must be there once, before and after folds and a reopen.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	tail := &shakyTail{memTail: &memTail{values: map[string][]byte{}, around: func() {}}, n: 3}
	dir, o := t.TempDir(), &Options{Tail: tail, FoldAge: -1}
	s := mustOpen(t, dir, o)
	b := s.Bucket("")
	mustPut(t, b, "a", Append, 0)
	tries := 0
	for n := int64(1); n < 30; n++ {
		for tail.n += int(n) % 3; ; tries++ {
			_, err := b.Put(t.Context(), "a", rowsOf(n), Append, &PutOptions{ID: fmt.Sprint(n)})
			if err == nil {
				break
			}
			if !errors.Is(err, errShaky) {
				t.Fatal(err)
			}
			got, _, err := read(t.Context(), b, "a")
			if err != nil || !slices.Equal(got, from(0, n)) && !slices.Equal(got, from(0, n+1)) {
				t.Fatal(got, err)
			}
		}
		wantRows(t, b, "a", from(0, n+1)...)
		if n%5 == 0 {
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if tries < 20 {
		t.Fatal(tries)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b = mustOpen(t, dir, o).Bucket("")
	wantRows(t, b, "a", from(0, 30)...)
}
