package tables_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{Tail: tail, Sync: true, FoldAge: -1})
	other := tabletest.Open(t, dir, &tables.Options{NoTail: true})
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
		go func() {
			_, err := b.Table("t").Put(ctx, tabletest.Rows(n), tables.PutAppend, nil)
			result <- err
		}()
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
	tabletest.Succeed(t, other.Bucket("").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "n", Max: "15"}}}))
	tail.gate.Store(nil)
	gate <- nil
	if err := <-first; err != nil {
		t.Errorf("the put before the rule: %v", err)
	}
	for _, result := range group {
		if err := <-result; err == nil || !strings.Contains(err.Error(), "few") {
			t.Errorf("a put after the rule: %v, want an error that names the rule", err)
		}
	}
	tabletest.Succeed(t, other.Bucket("").EditRules(t.Context(), tables.RuleEdit{Remove: []string{"few"}}))
	if err := <-put(t.Context()); err != nil {
		t.Errorf("a put after another process removed the rule: %v", err)
	}
	tabletest.WantRows(t, b, "t", 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 15, 21)
}
