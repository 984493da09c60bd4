package tail

import (
	"context"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// uncertainStore is a store whose appends succeed, but report an unknown outcome while isUncertain is set.
type uncertainStore struct {
	*partd.Dict
	isUncertain bool
}

func (u *uncertainStore) Append(ctx context.Context, e ...partd.Entry) error {
	err := u.Dict.Append(ctx, e...)
	if err == nil && u.isUncertain {
		err = partd.ErrUnknownOutcome
	}
	return err
}

// TestCached checks that a reader's result is cached within the memory limit for rows, until the rows change
// or are folded (moved into data files).
func TestCached(t *testing.T) {
	ctx := t.Context()
	p := &uncertainStore{Dict: partd.NewDict()}
	s, l := openLog(t, p, false, 1<<20)
	few, many := batchOf(t, columns, 1, 2, 3), batchOf(t, columns, make([]int64, 40_000)...)
	add := func(id string, want error) {
		t.Helper()
		if !must.Fail(t, appendTo(ctx, l, id, time.Now(), few), want, "append %q", id) {
			t.FailNow()
		}
	}
	lastMark := ""
	checkChanged := func(step string) {
		t.Helper()
		mark, err := l.Fingerprint(ctx, -1)
		if err != nil || mark == lastMark {
			t.Fatalf("after %s: Fingerprint = %s, %v, want a new fingerprint", step, mark, err)
		}
		if _, _, ok := l.Cached(mark); ok {
			t.Fatalf("after %s: the outdated result is still cached", step)
		}
		before := s.UsedMemory()
		l.Cache(mark, many, true)
		if _, _, ok := l.Cached(mark); ok || s.UsedMemory() != before {
			t.Fatalf("after %s: a result that is too large was cached: %d bytes are used", step, s.UsedMemory())
		}
		l.Cache(mark, few, true)
		secondMark, err := l.Fingerprint(ctx, -1)
		rows, replaces, ok := l.Cached(mark)
		if err != nil || secondMark != mark || !ok || !replaces || rows[0] != few || s.UsedMemory() <= before {
			t.Fatalf("after %s: Cached = %v, %v, want the cached rows (%v)", step, rows, ok, err)
		}
		lastMark = mark
	}
	add("one", nil)
	checkChanged("the first append")
	add("two", nil)
	checkChanged("the second append")
	p.isUncertain = true
	add("three", partd.ErrUnknownOutcome)
	checkChanged("an append with unknown outcome")
	p.isUncertain = false
	l.Void([]string{"two"})
	checkChanged("Void")
	must.Do(t, l.Forget(ctx, 1<<40))
	l.Cache(lastMark, few, false) // like a slow reader that finishes after the fold
	if used := s.UsedMemory(); used != 0 {
		t.Errorf("%d bytes are still used after the fold", used)
	}
}

// forgetfulStore is a store that loses its data when hasForgotten is set.
type forgetfulStore struct {
	*partd.Dict
	hasForgotten bool
}

func (f *forgetfulStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if f.hasForgotten {
		return make([][]byte, len(keys)), nil
	}
	return f.Dict.Get(ctx, keys...)
}

// TestCachedLostRows checks that a cached result is dropped if the store has lost an append, although a later
// append with as many rows and bytes produces the same fingerprint.
func TestCachedLostRows(t *testing.T) {
	ctx := t.Context()
	p := &forgetfulStore{Dict: partd.NewDict()}
	_, l := openLog(t, p, false, 1<<20)
	add := func(n int64, id string) string {
		t.Helper()
		must.Do(t, appendTo(ctx, l, id, time.Unix(1, 0), batchOf(t, columns, n)))
		return must.Get(l.Fingerprint(ctx, -1))(t)
	}
	mark := add(1, "a")
	l.Cache(mark, batchOf(t, columns, 1), false)
	p.hasForgotten, l.epochs[0].stale = true, true // as after a failed sync
	if secondMark := add(2, "b"); secondMark != mark {
		t.Fatal("the fingerprints differ, so nothing was tested: ", mark, secondMark)
	}
	if rows, _, ok := l.Cached(mark); ok {
		t.Error("the result with the lost append is still cached: ", rows)
	}
}

// TestRowsAfterFoldedEpoch checks that rows that were folded (moved into data files) but not removed yet are neither
// read nor counted, and that Recover removes them.
func TestRowsAfterFoldedEpoch(t *testing.T) {
	ctx := t.Context()
	p := partd.NewDict()
	_, l := openLog(t, p, false, 1<<20)
	var folded int64
	for n := range int64(2) {
		must.Do(t, appendTo(ctx, l, "", time.Now(), batchOf(t, columns, n)))
		if n == 0 {
			var err error
			folded, _, err = l.EndEpoch(ctx)
			must.Do(t, err)
		}
	}
	batches, err := l.Rows(ctx, folded, folded+1)
	if err != nil || len(batches) != 1 || batches[0].Column(0).ValueStr(0) != "1" {
		t.Errorf("Rows = %v, %v, want the second row", batches, err)
	}
	if rows, _, _, _ := l.Size(folded); rows != 1 {
		t.Errorf("Size returned %d rows, want 1", rows)
	}
	s := must.Get(Open(ctx, p, "w", false, 1<<20))(t)
	must.Get(recoverLog(ctx, s, folded))(t)
	if values, err := p.Get(ctx, l.key(folded)); err != nil || len(values[0]) > 0 {
		t.Errorf("after Claim, the store has %d bytes of folded rows (error %v), want none", len(values[0]), err)
	}
}
