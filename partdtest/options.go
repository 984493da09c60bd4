package partdtest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

// Ability is something that not every store can do.
type Ability string

// The abilities, by the interfaces of package partd. A store has one if the function
// of package partd for it does not answer with errors.ErrUnsupported. So a store
// that can list can scan and stat, too: these functions fall back to Keys.
const (
	CanSet    Ability = "set"    // partd.Setter
	CanDelete Ability = "delete" // partd.Deleter
	CanPop    Ability = "pop"    // partd.Popper
	CanList   Ability = "list"   // partd.Lister
	CanOpen   Ability = "open"   // partd.Opener
	CanScan   Ability = "scan"   // partd.Scanner; partd.ScanPart needs no more
	CanFlush  Ability = "flush"  // partd.Flusher
	CanSync   Ability = "sync"   // partd.Syncer
	CanStat   Ability = "stat"   // partd.Statter
	CanApply  Ability = "apply"  // partd.Applier
	CanClose  Ability = "close"  // io.Closer
)

// Options are the options of [Run] and [StateMachine].
type Options struct {
	// Require are abilities whose lack is an error.
	Require []Ability
	// Reopen is for stores that outlive their process. It is given an open store,
	// closes it, and returns another over the same data.
	Reopen func(t *testing.T, store partd.Partd) partd.Partd
	// Dir is for stores in a directory of their own, which it returns. The names
	// that the store gives to its files are then tried as keys, and nothing may
	// appear beside the directory.
	Dir func(store partd.Partd) string
	// OwnNames are names that the store uses itself, for files or in memory. They
	// are tried as keys, too.
	OwnNames []string
	// LargeValue is the length of the value that a single append is tried with, in
	// bytes; 0 is 8 MiB.
	LargeValue int
	// Pieces is the number of appends that one key is given; 0 is 300.
	Pieces int
	// MachineRuns is how often the state machine opens the store at most, where
	// that is slow; 0 is no bound. (A failure is looked into with as many as that
	// takes.)
	MachineRuns int
}

// probe finds out what the store can do, on a store of its own.
func (s *suite) probe(t tester) {
	ctx := context.Background()
	store := s.open(t.real())
	if store == nil {
		t.Fatalf("open returned no store")
	}
	if err := compare(ctx, store, nil, nil); err != nil {
		t.Fatalf("a new store must be empty: %v", err)
	}
	s.can = map[Ability]bool{}
	_, s.can[CanOpen] = store.(partd.Opener)
	for _, p := range []struct {
		ability Ability
		try     func() error
	}{
		{CanDelete, func() error { return partd.Delete(ctx, store, "probe") }},
		{CanPop, func() error { _, err := partd.Pop(ctx, store, "probe"); return err }},
		{CanList, func() error { _, err := listKeys(ctx, store); return err }},
		{CanScan, func() error { _, err := scanAll(ctx, store); return err }},
		{CanStat, func() error { _, err := partd.Stat(ctx, store); return err }},
		{CanFlush, func() error { return partd.Flush(ctx, store) }},
		{CanSync, func() error { return partd.Sync(ctx, store) }},
		{CanSet, func() error { return s.probeSet(ctx, store) }},
		{CanApply, func() error { return probeApply(ctx, store) }},
		{CanClose, func() error { return partd.Close(ctx, store) }}, // the last
	} {
		err := p.try()
		s.can[p.ability] = err == nil
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s on an empty store: %v", p.ability, err)
		}
	}
	for _, a := range []Ability{CanScan, CanStat} {
		if s.can[CanList] && !s.can[a] {
			t.Errorf("the store can list its keys and says that it cannot %s: leave the method out, or in a layer call partd's function of that name, which falls back to Keys", a)
		}
	}
	for _, a := range s.opts.Require {
		if !s.can[a] {
			t.Errorf("the store cannot %s, which is required", a)
		}
	}
}

func (s *suite) probeSet(ctx context.Context, store partd.Partd) error {
	err1 := partd.Set(ctx, store, "probe", []byte("1"))
	err2 := partd.SetOnce(ctx, store, "probe once", []byte("1"))
	if errors.Is(err1, errors.ErrUnsupported) != errors.Is(err2, errors.ErrUnsupported) {
		return fmt.Errorf("of Set and SetOnce the store can do one alone: %v, %v", err1, err2)
	}
	if errors.Is(err1, errors.ErrUnsupported) {
		values, err := store.Get(ctx, "probe", "probe once")
		if err == nil && len(values) == 2 && len(values[0])+len(values[1]) > 0 {
			return fmt.Errorf("a Set that is not supported has an effect: Get returned %q", values)
		}
	}
	return errors.Join(err1, err2)
}

func probeApply(ctx context.Context, store partd.Partd) error {
	applier, ok := store.(partd.Applier)
	if !ok {
		return errors.ErrUnsupported
	}
	session, err := applier.NewSession(ctx)
	if err == nil {
		err = applier.EndSession(ctx, session)
	}
	return err
}
