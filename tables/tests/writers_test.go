package tables_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReadersDuringFolds reads while rows are appended and folded, and files are merged and removed: each read must
// return every row acknowledged before the read exactly once.
func TestReadersDuringFolds(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: 10 * time.Millisecond})
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var lastRow atomic.Int64 // the last acknowledged row
	var writers, readers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	writers.Go(func() {
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := b.Table("a").Put(ctx, tabletest.Rows(n), tables.PutAppend, nil); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			lastRow.Store(n)
			time.Sleep(200 * time.Microsecond)
		}
	})
	writers.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			if _, err := s.Compact(ctx, nil); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 2}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if _, err := s.Maintain(ctx, &tables.MaintainOptions{Keep: 3}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			for reads.Add(1) <= int64(tabletest.Rounds(t, "PARTD_READS", 100)) && !t.Failed() {
				acknowledged := lastRow.Load()
				ns, _, err := tabletest.Read(ctx, b, "a")
				if !must.Check(t, err) {
					return
				}
				if int64(len(ns)) <= acknowledged || !slices.Equal(ns, tabletest.Sequence(0, int64(len(ns)))) {
					t.Errorf("read %d rows: %v; want each row from 0 to %d or later exactly once", len(ns), ns, acknowledged)
				}
			}
		})
	}
	readers.Wait()
}

// TestManyWriters checks that no row is lost if many goroutines append to the same few tables, which do not exist at
// first.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	for _, noTail := range []bool{false, true} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldBytes: 3000})
		var g sync.WaitGroup
		const writers, putsPerWriter = 20, 5
		for w := range writers {
			g.Go(func() {
				for i := range putsPerWriter {
					n := int64(w*putsPerWriter + i)
					must.Check(t, must.Err(s.Bucket("x").Table(fmt.Sprint(n%3)).Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil)))
				}
			})
		}
		g.Wait()
		var all []int64
		for i := range 3 {
			ns, _, err := tabletest.Read(t.Context(), s.Bucket("x"), fmt.Sprint(i))
			must.Do(t, err)
			all = append(all, ns...)
		}
		slices.Sort(all)
		if !slices.Equal(all, tabletest.Sequence(0, writers*putsPerWriter)) {
			t.Fatalf("NoTail %v: read rows %v, want 0 to %d", noTail, all, writers*putsPerWriter-1)
		}
	}
}

// TestTwoTails checks that two Stores with tails of their own can share a directory.
func TestTwoTails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*tables.Store
	for range 2 {
		stores = append(stores, tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1}))
	}
	tabletest.Put(t, stores[0].Bucket(""), "a", tables.PutAppend, 0)
	for n := int64(1); n < 20; n++ {
		tabletest.Put(t, stores[n%2].Bucket(""), "a", tables.PutAppend, n)
		if n%3 == 0 {
			must.Get(stores[n/3%2].Fold(t.Context(), nil))(t)
		}
	}
	for _, s := range stores {
		tabletest.Fold(t, s)
	}
	for _, s := range stores {
		tabletest.WantRows(t, s.Bucket(""), "a", tabletest.Sequence(0, 20)...)
	}
}

// TestConcurrentCreates checks that no row is lost if Stores with separate tails create the same tables concurrently.
func TestConcurrentCreates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stores []*tables.Store
	for range 3 {
		stores = append(stores, tabletest.Open(t, dir, &tables.Options{Tail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}, FoldAge: -1}))
	}
	const tableCount = 10
	var g sync.WaitGroup
	for i, s := range stores {
		g.Go(func() {
			for n := range tableCount {
				must.Check(t, must.Err(s.Bucket("").Table(fmt.Sprint(n)).Put(t.Context(), tabletest.Rows(int64(i)), tables.PutAppend, nil)))
			}
		})
	}
	g.Wait()
	for _, s := range stores {
		tabletest.Fold(t, s)
	}
	for n := range tableCount {
		got, _, err := tabletest.Read(t.Context(), stores[0].Bucket(""), fmt.Sprint(n))
		if err != nil || len(got) != len(stores) || got[0]+got[1]+got[2] != 3 {
			t.Fatalf("table %d has rows %v, error %v; want one row from each store", n, got, err)
		}
	}
}

// TestSameIDTwoTails puts rows with the same put ID through two Stores before either folds (moves its rows into data
// files). After both folds, the table has the rows only once, and no fold fails because of the ID.
func TestSameIDTwoTails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *tables.Store {
		return tabletest.Open(t, dir, &tables.Options{Tail: partd.NewDict(), FoldAge: -1})
	}
	first, second, withoutTail := open(), open(), tabletest.Open(t, dir, &tables.Options{NoTail: true})
	tabletest.Put(t, first.Bucket(""), "a", tables.PutAppend, 0)
	put := func(s *tables.Store, n int64, id string) {
		t.Helper()
		tabletest.PutRows(t, s.Bucket(""), "a", tabletest.Rows(n), tables.PutAppend, &tables.PutOptions{ID: id})
	}
	fold := func(s *tables.Store) {
		t.Helper()
		tabletest.Fold(t, s)
	}
	put(first, 1, "x")
	put(second, 1, "x") // second's first append to the table, which also stores the schema in the tail
	put(second, 2, "")
	fold(first)
	fold(second)
	for _, s := range []*tables.Store{first, second} {
		tabletest.WantRows(t, s.Bucket(""), "a", 0, 1, 2)
	}
	put(first, 3, "y")
	put(withoutTail, 3, "y")
	fold(first)
	tabletest.WantRows(t, withoutTail.Bucket(""), "a", 0, 1, 2, 3)
}

// delayingTail holds back the entries of the next Append if holdNext is set.
type delayingTail struct {
	*tabletest.MemTail
	holdNext bool
	heldBack []partd.Entry
}

func (l *delayingTail) Append(ctx context.Context, entries ...partd.Entry) error {
	if l.holdNext {
		l.holdNext, l.heldBack = false, entries
		return partd.ErrUnknownOutcome
	}
	return l.MemTail.Append(ctx, entries...)
}

// TestLateAppend delays an append with an unknown outcome until after its retry with the same ID. The table must have
// the rows only once.
func TestLateAppend(t *testing.T) {
	t.Parallel()
	tail := &delayingTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	dir, o := t.TempDir(), &tables.Options{Tail: tail, FoldAge: -1}
	s := tabletest.Open(t, dir, o)
	tabletest.Put(t, s.Bucket(""), "a", tables.PutAppend, 0)
	tail.holdNext = true
	put := func() error {
		a := s.Bucket("").Table("a")
		return must.Err(a.Put(t.Context(), tabletest.Rows(1), tables.PutAppend, &tables.PutOptions{ID: "x"}))
	}
	if err := put(); err == nil {
		t.Fatal("the delayed put succeeded, want ErrUnknownOutcome")
	}
	must.Do(t, put())
	must.Do(t, tail.MemTail.Append(t.Context(), tail.heldBack...))
	must.Do(t, s.Close())
	s = tabletest.Open(t, dir, o)
	tabletest.WantRows(t, s.Bucket(""), "a", 0, 1)
	tabletest.Fold(t, s)
	tabletest.WantRows(t, s.Bucket(""), "a", 0, 1)
}

// TestLock checks that a lock has only one holder at a time among the goroutines of two Stores on one
// directory. The two Stores simulate two processes.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var holders atomic.Int64
	var workers sync.WaitGroup
	for range 2 {
		s := tabletest.Open(t, dir, &tables.Options{NoTail: true})
		for range 4 {
			workers.Go(func() {
				for range 20 {
					l, err := s.Bucket("b").Table("a").Lock(t.Context())
					if !must.Check(t, err) {
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d goroutines hold the lock, want 1", n)
					}
					holders.Add(-1)
					must.Check(t, errors.Join(l.Unlock(), l.Unlock()))
				}
			})
		}
	}
	workers.Wait()
	s := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	l := must.Get(s.Bucket("b").Table("a").Lock(t.Context()))(t)
	otherLock := must.Get(s.Bucket("").Table("a").Lock(t.Context()))(t)
	must.Do(t, otherLock.Unlock())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	must.Fail(t, must.Err(s.Bucket("b").Table("a").Lock(ctx)), context.DeadlineExceeded, "Lock")
	must.Do(t, l.Unlock())
}

// gatedTail counts appends and syncs. A sync waits for its outcome if gate is set.
type gatedTail struct {
	*tabletest.MemTail
	gate            atomic.Pointer[chan error]
	appends, synced atomic.Int64
}

func (g *gatedTail) Append(ctx context.Context, entries ...partd.Entry) error {
	g.appends.Add(1)
	return g.MemTail.Append(ctx, entries...)
}

func (g *gatedTail) Sync(context.Context) error {
	g.synced.Add(1)
	if c := g.gate.Load(); c != nil {
		return <-*c
	}
	return nil
}

// TestAppendsInGroups checks that the appends that arrive during a sync share one write and the next sync: they
// return only after that sync, and get its error. Those whose context ends before it add no rows.
func TestAppendsInGroups(t *testing.T) {
	t.Parallel()
	tail := &gatedTail{MemTail: &tabletest.MemTail{Values: map[string][]byte{}, Around: func() {}}}
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: tail, Sync: true, FoldAge: -1})
	other := tabletest.Open(t, s.Dir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 0)
	waitFor := func(n int64) {
		t.Helper()
		for begin := time.Now(); tail.synced.Load() < n; time.Sleep(time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				t.Fatalf("%d syncs began, want %d", tail.synced.Load(), n)
			}
		}
	}
	next := int64(1)
	put := func(ctx context.Context) chan error {
		result, n := make(chan error, 1), next
		next++
		go func() { result <- must.Err(b.Table("t").Put(ctx, tabletest.Rows(n), tables.PutAppend, nil)) }()
		return result
	}
	// startGroup starts a put, and then five puts that wait for its sync, which ends with what gate receives.
	startGroup := func() (gate chan error, first chan error, group []chan error) {
		gate = make(chan error)
		tail.gate.Store(&gate)
		syncs := tail.synced.Load()
		first = put(t.Context())
		waitFor(syncs + 1)
		for range 5 {
			group = append(group, put(t.Context()))
		}
		time.Sleep(50 * time.Millisecond)
		return gate, first, group
	}
	for _, outcome := range []error{nil, tabletest.ErrShaky} {
		appends, syncs := tail.appends.Load(), tail.synced.Load()
		gate, first, group := startGroup()
		ctx, cancel := context.WithCancel(t.Context())
		canceled := put(ctx)
		time.Sleep(50 * time.Millisecond)
		cancel()
		if err := <-canceled; !errors.Is(err, context.Canceled) || errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("a put canceled before its group was written: %v, want only context.Canceled", err)
		}
		gate <- nil
		if err := <-first; err != nil {
			t.Errorf("the first put: %v", err)
		}
		waitFor(syncs + 2)
		for _, result := range group {
			if len(result) > 0 {
				t.Error("a put returned before its sync")
			}
		}
		gate <- outcome
		for _, result := range group {
			if err := <-result; !errors.Is(err, outcome) || errors.Is(err, partd.ErrUnknownOutcome) != (outcome != nil) {
				t.Errorf("a put of the group: %v, want %v", err, outcome)
			}
		}
		if a, n := tail.appends.Load()-appends, tail.synced.Load()-syncs; a != 2 || n != 2 {
			t.Errorf("6 appends made %d writes and %d syncs, want 2 of each", a, n)
		}
	}
	// Another process adds a rule after the group's rows were checked.
	gate, first, group := startGroup()
	must.Do(t, other.Bucket("").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "n", Max: "15"}}}))
	tail.gate.Store(nil)
	gate <- nil
	if err := <-first; err != nil {
		t.Errorf("the put before the rule: %v", err)
	}
	for _, result := range group {
		must.Fail(t, <-result, "few", "a put after the rule")
	}
	must.Do(t, other.Bucket("").EditRules(t.Context(), tables.RuleEdit{Remove: []string{"few"}}))
	if err := <-put(t.Context()); err != nil {
		t.Errorf("a put after another process removed the rule: %v", err)
	}
	tabletest.WantRows(t, b, "t", 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 15, 21)
}
