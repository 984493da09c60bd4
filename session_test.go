package partd

import (
	"context"
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSessionFlood issues more sessions than a store keeps. The used session and the newest one must survive.
func TestSessionFlood(t *testing.T) {
	file := must.Get(OpenFile(t.TempDir(), nil))(t)
	defer file.Close()
	for name, store := range map[string]interface {
		Applier
		SessionGuard
	}{"dict": NewDict(), "file": file} {
		t.Run(name, func(t *testing.T) {
			op := Operation{Entries: []Entry{{Key: "k", Value: []byte("v")}}}
			session := func() uint64 {
				id := must.Get(store.NewSession(ctx))(t)
				return id
			}
			apply := func(id, n uint64) error {
				_, err := store.Apply(ctx, Tag{Session: id, Number: n}, op)
				return err
			}
			usedSession := session()
			must.Do(t, apply(usedSession, 1))
			var ids []uint64
			for range sessiontab.MaxSessions + 100 {
				ids = append(ids, session())
			}
			if err := apply(usedSession, 2); err != nil {
				t.Errorf("Apply in the used session: %v", err)
			}
			must.Fail(t, apply(ids[0], 1), ErrSessionExpired, "Apply in the oldest unused session")
			if err := apply(ids[len(ids)-1], 1); err != nil {
				t.Errorf("Apply in the newest session: %v", err)
			}
		})
	}
}

func TestSessionTokens(t *testing.T) {
	dir := t.TempDir()
	file := must.Get(OpenFile(dir, nil))(t)
	defer file.Close()
	reopened := must.Get(OpenFile(dir, nil))(t)
	defer reopened.Close()
	dict := NewDict()
	for name, stores := range map[string][2]SessionGuard{"dict": {dict, dict}, "file": {file, reopened}} {
		id := must.Get(stores[0].(Applier).NewSession(ctx))(t)
		token := must.Get(stores[0].SessionToken(ctx, id))(t)
		if err := stores[1].CheckSession(ctx, id, token); err != nil {
			t.Errorf("%s: CheckSession with the session's token: %v", name, err)
		}
		next, err := stores[0].SessionToken(ctx, id+1)
		if err != nil || next == token {
			t.Errorf("%s: token of the next session = %x, %v, want another token", name, next, err)
		}
		for _, wrong := range []SessionToken{{}, next} {
			if err := stores[1].CheckSession(ctx, id, wrong); !errors.Is(err, ErrSessionExpired) {
				t.Errorf("%s: CheckSession with a wrong token: error %v, want ErrSessionExpired", name, err)
			}
		}
	}
}

// endedAfterOneCheck is a context that ends after it has been checked once.
type endedAfterOneCheck struct {
	context.Context
	checks int
}

func (c *endedAfterOneCheck) Err() error {
	if c.checks++; c.checks > 1 {
		return context.Canceled
	}
	return nil
}

// TestDictRetryAfterFailure checks that an operation which failed does not count as applied.
func TestDictRetryAfterFailure(t *testing.T) {
	d := NewDict()
	session := must.Get(d.NewSession(ctx))(t)
	tag := Tag{Session: session, Number: 1}
	op := Operation{Entries: []Entry{{Key: "k", Value: []byte("v")}}}
	if applied, err := d.Apply(&endedAfterOneCheck{Context: ctx}, tag, op); applied || !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply whose context ends meanwhile = %v, %v, want Canceled", applied, err)
	}
	if applied, err := d.Apply(ctx, tag, op); err != nil || !applied {
		t.Fatalf("retry of an operation that failed = %v, %v, want true", applied, err)
	}
	wantValue(t, d, "k", "v")
}

// TestOperationWithoutEntries checks that an incomplete operation is an error, with and without a tag.
func TestOperationWithoutEntries(t *testing.T) {
	for _, change := range []Change{ChangeSet, ChangeSetOnce, 9} {
		op := Operation{Change: change}
		want := op.Check(Tag{Session: 1, Number: 1})
		if err := op.Do(t.Context(), NewDict()); err == nil || err.Error() != want.Error() {
			t.Errorf("change %d without entries: Do returned %v, want %v", change, err, want)
		}
	}
}
