package partdtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd"
)

// Ability is an optional ability of a store.
type Ability string

// These are the abilities, each with its interface in package partd. A store has an ability if
// partd's function for it does not return errors.ErrUnsupported. A store that can list can therefore
// also scan and stat, because partd.Scan and partd.Stat fall back to Keys.
const (
	CanSet    Ability = "set"    // partd.Setter
	CanDelete Ability = "delete" // partd.Deleter
	CanPop    Ability = "pop"    // partd.Popper
	CanList   Ability = "list"   // partd.Lister
	CanHas    Ability = "has"    // partd.Haser
	CanOpen   Ability = "open"   // partd.Opener
	CanScan   Ability = "scan"   // partd.Scanner; also suffices for partd.ScanPart
	CanFlush  Ability = "flush"  // partd.Flusher
	CanSync   Ability = "sync"   // partd.Syncer
	CanStat   Ability = "stat"   // partd.Statter
	CanApply  Ability = "apply"  // partd.Applier
	CanClose  Ability = "close"  // io.Closer
)

// Options configures [Run] and [StateMachine].
type Options struct {
	// Require lists abilities that the store must have.
	Require []Ability
	// Without lists abilities that a layer lacks on purpose: it has no method for them, or the method
	// returns errors.ErrUnsupported. A layer is a store with an Unwrap method. It must have every other
	// ability of the store beneath it, unless partd.As finds the ability there. To check all abilities,
	// open the layer over a store that has many, such as logstore.
	Without []Ability
	// Reopen closes a store and returns a new one with the same data. Set Reopen for a store whose
	// data outlives the process.
	Reopen func(t *testing.T, store partd.Partd) partd.Partd
	// Dir returns the store's directory, which nothing else may use. If Dir is set, the tests use the
	// names of the store's files as keys, and check that keys create no files outside the directory.
	Dir func(store partd.Partd) string
	// InternalNames lists names that the store uses internally, which the tests also use as keys.
	InternalNames []string
	// LargeValue is the length of the largest appended value, in bytes. 0 means 8 MiB.
	LargeValue int
	// Pieces is the number of appends in the check of a value with many appends. 0 means 300.
	Pieces int
	// Parts is how many randomly chosen parts are scanned by the check that divides a scan into
	// 65,536 parts. 0 means as many as it can scan within 5 seconds.
	Parts int
	// MachineRuns limits the number of stores that StateMachine opens; 0 means no limit. Set
	// MachineRuns if opening a store is slow. After a failure, StateMachine may open more stores,
	// to shrink the failing sequence of operations.
	MachineRuns int
}

// withFallback lists abilities for which partd's functions can use other abilities instead.
var withFallback = []Ability{CanHas, CanOpen, CanScan, CanStat}

// probe records in s.can the abilities of the stores that s.open returns.
func (s *suite) probe(t tester) {
	ctx := context.Background()
	store := s.newEnv(ctx, t).store
	if err := compare(ctx, store, nil, nil); err != nil {
		t.Fatalf("a new store must be empty: %v", err)
	}
	s.checkLayers(t, store)
	s.can = map[Ability]bool{}
	_, s.can[CanOpen] = store.(partd.Opener)
	for _, p := range []struct {
		ability Ability
		try     func() error
	}{
		{CanDelete, func() error { return partd.Delete(ctx, store, "probe") }},
		{CanPop, func() error { _, err := partd.Pop(ctx, store, "probe"); return err }},
		{CanHas, func() error { _, err := partd.Has(ctx, store, "probe"); return err }},
		{CanList, func() error { _, err := listKeys(ctx, store); return err }},
		{CanScan, func() error { _, err := scanAll(ctx, store); return err }},
		{CanStat, func() error { _, err := partd.Stat(ctx, store); return err }},
		{CanFlush, func() error { return partd.Flush(ctx, store) }},
		{CanSync, func() error { return partd.Sync(ctx, store) }},
		{CanSet, func() error { return s.probeSet(ctx, store) }},
		{CanApply, func() error { return probeApply(ctx, store) }},
		{CanClose, func() error { return partd.Close(ctx, store) }}, // must be last
	} {
		err := p.try()
		s.can[p.ability] = err == nil
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s on an empty store: %v", p.ability, err)
		}
	}
	for _, a := range s.opts.Without {
		if s.can[a] && !slices.Contains(withFallback, a) {
			t.Errorf("the store can %s, but Options.Without lists it", a)
		}
	}
	for _, a := range s.opts.Require {
		if !s.can[a] {
			t.Errorf("the store cannot %s, but Options.Require lists it", a)
		}
	}
}

func (s *suite) probeSet(ctx context.Context, store partd.Partd) error {
	err1 := partd.Set(ctx, store, "probe", []byte("1"))
	err2 := partd.SetOnce(ctx, store, "probe once", []byte("1"))
	if errors.Is(err1, errors.ErrUnsupported) != errors.Is(err2, errors.ErrUnsupported) {
		return fmt.Errorf("the store supports only one of Set and SetOnce: %v, %v", err1, err2)
	}
	if errors.Is(err1, errors.ErrUnsupported) {
		values, err := store.Get(ctx, "probe", "probe once")
		if err == nil && len(values) == 2 && len(values[0])+len(values[1]) > 0 {
			return fmt.Errorf("an unsupported Set has an effect: Get returned %q", values)
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
	if err != nil {
		return err
	}
	return applier.EndSession(ctx, session)
}
