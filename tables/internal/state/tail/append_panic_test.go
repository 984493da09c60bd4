package tail

import (
	"context"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// panickingStore is a store whose appends succeed, but panic while panics is set.
type panickingStore struct {
	*partd.Dict
	panics bool
}

func (s *panickingStore) Append(ctx context.Context, e ...partd.Entry) error {
	err := s.Dict.Append(ctx, e...)
	if s.panics {
		panic("planted")
	}
	return err
}

// TestPanicInAppend checks that an append whose store panics has an unknown outcome, and damages no later appends, even
// if it is the first of an epoch.
func TestPanicInAppend(t *testing.T) {
	ctx := t.Context()
	p := &panickingStore{Dict: partd.NewDict()}
	_, l := openLog(t, p, false, 1<<20)
	rows := batchOf(t, columns, 1, 2, 3)
	p.panics = true
	must.Fail(t, appendTo(ctx, l, "one", time.Now(), rows), partd.ErrUnknownOutcome, "an append whose store panics")
	p.panics = false
	must.Do(t, appendTo(ctx, l, "two", time.Now(), rows))
	check := func(l *Log) {
		t.Helper()
		_ = must.Get(l.Rows(ctx, -1, 10))(t)
		if n, _, _, _ := l.Size(-1); n != 6 {
			t.Errorf("the log has %d rows, want 6", n)
		}
	}
	check(l)
	s := must.Get(Open(ctx, p, "w", false, 1<<20))(t)
	check(must.Get(recoverLog(ctx, s, -1))(t))
}
