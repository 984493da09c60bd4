package shards

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// faultyStore is a store whose operations run and then, if err is set, return it as their error.
type faultyStore struct {
	*partd.Dict
	err   atomic.Pointer[error]
	calls atomic.Int64
}

func (f *faultyStore) fail() error {
	f.calls.Add(1)
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faultyStore) Append(ctx context.Context, entries ...partd.Entry) error {
	return errors.Join(f.fail(), f.Dict.Append(ctx, entries...))
}

func (f *faultyStore) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	v, err := f.Dict.Get(ctx, keys...)
	return v, errors.Join(f.fail(), err)
}

func (f *faultyStore) Delete(ctx context.Context, keys ...string) error {
	return errors.Join(f.fail(), f.Dict.Delete(ctx, keys...))
}

func (f *faultyStore) Close() error { return errors.Join(f.fail(), f.Dict.Close()) }

// keyOf returns a key that belongs to the named shard.
func keyOf(s *Shards, name string) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("of ", name, i); s.shards[s.indexOf(key)].name == name {
			return key
		}
	}
}

func TestFailingShard(t *testing.T) {
	ctx := t.Context()
	stores := []*faultyStore{{Dict: partd.NewDict()}, {Dict: partd.NewDict()}, {Dict: partd.NewDict()}}
	s := shardsOver(t, abc, []partd.Partd{stores[0], stores[1], stores[2]})
	downErr := errors.New("no route to host")
	batch := func(names ...string) (entries []partd.Entry) {
		for _, name := range names {
			entries = append(entries, partd.Entry{Key: keyOf(s, name), Value: []byte("x")})
		}
		return entries
	}
	// Until all shard lists are written, no store may change, because a name may be wrong.
	stores[1].err.Store(&downErr)
	for _, names := range [][]string{abc, {"a", "c"}} {
		err := s.Append(ctx, batch(names...)...)
		if !errors.Is(err, downErr) || errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "shard b: ") {
			t.Errorf("the first Append, to %s, = %v, want %v without an unknown outcome", names, err, downErr)
		}
	}
	for _, store := range stores {
		if st, err := store.Stat(ctx); err != nil || st.Keys > 0 {
			t.Errorf("Stat after the failed appends = %+v, %v, want no list and no key", st, err)
		}
	}
	stores[1].err.Store(nil)
	must.Do(t, s.Append(ctx, batch("a", "b", "c")...))
	stores[1].err.Store(&downErr)
	newClient := shardsOver(t, abc, []partd.Partd{stores[0], stores[1], stores[2]})
	must.Do(t, newClient.Append(ctx, batch("a", "c")...)) // the other shards still work
	for name, err := range map[string]error{
		"append": s.Append(ctx, batch("a", "b", "c")...),
		"delete": s.Delete(ctx, keyOf(s, "a"), keyOf(s, "b"), keyOf(s, "c")),
	} {
		if !errors.Is(err, downErr) || !errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "the change succeeded on a, c, but shard b: no route") {
			t.Errorf("%s with one of three shards down = %v, want an unknown outcome that names all shards", name, err)
		}
	}
	if err := s.Append(ctx, batch("b")...); !errors.Is(err, downErr) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Append to the shard that is down = %v, want %v without an unknown outcome", err, downErr)
	}
	if _, err := s.Get(ctx, keyOf(s, "b")); !errors.Is(err, downErr) || !strings.Contains(err.Error(), "shard b: ") {
		t.Errorf("Get from the shard that is down = %v, want %v of shard b", err, downErr)
	}
	if _, err := s.Get(ctx, keyOf(s, "a"), keyOf(s, "c")); err != nil {
		t.Errorf("Get from the other shards: %v", err)
	}
	otherErr := errors.New("no space")
	stores[2].err.Store(&otherErr)
	if err := s.Close(); !errors.Is(err, downErr) || !errors.Is(err, otherErr) || stores[0].Dict.Append(ctx) == nil {
		t.Errorf("Close = %v, want %v and %v, and a closed store a", err, downErr, otherErr)
	}
}

// bare has only the methods of partd.Partd; settable can also set.
type bare struct{ partd.Partd }

type settable struct {
	bare
	partd.Setter
}

// TestAbilities checks that a missing ability of one store is an error, and never hides another failure.
func TestAbilities(t *testing.T) {
	ctx := t.Context()
	d := partd.NewDict()
	s := shardsOver(t, abc[:2], []partd.Partd{settable{bare{d}, d}, partd.NewDict()})
	fill(t, s, 10)
	tries := map[string]func() error{
		"keys":  func() error { _, err := partd.Stat(ctx, bareLister{s}); return err },
		"scan":  func() error { _, err := scan(s, 0, 1); return err },
		"stat":  func() error { _, err := s.Stat(ctx); return err },
		"pop":   func() error { _, err := partd.Pop(ctx, s, "k"); return err },
		"apply": func() error { _, err := partd.Apply(ctx, s, partd.Tag{}, partd.Operation{}); return err },
		"sync":  func() error { return s.Sync(ctx) },
		"flush": func() error { return s.Flush(ctx) },
		"check": func() error { _, err := s.Check(ctx); return err },
	}
	for name, try := range tries {
		must.Fail(t, try(), errors.ErrUnsupported, "%s", name)
	}
	err := s.Delete(ctx, keyOf(s, "a"), keyOf(s, "b"))
	if errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, partd.ErrUnknownOutcome) || !strings.Contains(err.Error(), "shard a: ") {
		t.Errorf("Delete that only one store supports = %v, want ErrUnknownOutcome of shard a", err)
	}
	must.Do(t, s.Close())
	if err := shardsOver(t, abc[:1], []partd.Partd{bare{partd.NewDict()}}).Append(ctx, partd.Entry{Key: "k"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Append to a store that cannot set = %v, want ErrUnsupported", err)
	}
	// A failed flush must not look like an unsupported flush.
	b := must.Get(partd.NewBuffer(partd.NewDict(), &faultyStore{Dict: partd.NewDict()}, nil))(t)
	s = shardsOver(t, abc[:2], []partd.Partd{partd.NewDict(), b})
	fill(t, s, 10)
	must.Do(t, s.Flush(ctx))
	fill(t, s, 10)
	downErr := errors.New("no route to host")
	b.Unwrap().(*faultyStore).err.Store(&downErr)
	if err := s.Flush(ctx); !errors.Is(err, downErr) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Flush = %v, want %v", err, downErr)
	}
	b.Unwrap().(*faultyStore).err.Store(nil)
	must.Do(t, s.Close())
}

type bareLister struct{ *Shards }

func (b bareLister) Stat(ctx context.Context) (st partd.Stats, err error) {
	for _, err = range b.Keys(ctx) {
		break
	}
	return st, err
}
