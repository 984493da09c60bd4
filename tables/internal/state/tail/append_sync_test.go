package tail

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

var errDisk = errors.New("disk failure")

// slowSync is a store whose syncs block until the test provides an outcome.
type slowSync struct {
	*partd.Dict
	started chan struct{}
	outcome chan error
}

func (s *slowSync) Sync(ctx context.Context) error {
	s.started <- struct{}{}
	select {
	case err := <-s.outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// syncTest is a tail in a slowSync store, with rows to append.
type syncTest struct {
	*slowSync
	t    *testing.T
	s    *Store
	rows arrow.RecordBatch
}

func newSyncTest(t *testing.T) *syncTest {
	p := &slowSync{partd.NewDict(), make(chan struct{}), make(chan error)}
	go func() {
		<-p.started
		p.outcome <- nil // the outcome of Open's own sync
	}()
	s := must.Get(Open(t.Context(), p, "w", true, 1<<20))(t)
	rows := batchOf(t, columns, 1)
	t.Cleanup(rows.Release)
	return &syncTest{p, t, s, rows}
}

func (s *syncTest) waitForSync() {
	s.t.Helper()
	select {
	case <-s.started:
	case <-time.After(10 * time.Second):
		s.t.Fatal("no sync began within 10 seconds")
	}
}

// append appends a row to a log, and returns a channel for the error of the append's sync.
func (s *syncTest) append(ctx context.Context, l *Log, id string) (outcome chan error) {
	s.t.Helper()
	f := must.Get(new(Encoder).Encode(s.rows.Schema(), []arrow.RecordBatch{s.rows}, id))(s.t)
	receipt := must.Get(l.Append(ctx, []Frame{f}, time.Now()))(s.t)
	outcome = make(chan error, 1)
	go func() { outcome <- receipt.Sync(ctx) }()
	return outcome
}

// expectWaiting checks that none of the appends has ended after 20 ms.
func (s *syncTest) expectWaiting(outcomes ...chan error) {
	s.t.Helper()
	time.Sleep(20 * time.Millisecond)
	for _, outcome := range outcomes {
		if len(outcome) > 0 {
			s.t.Fatalf("an append returned before its sync: %v", <-outcome)
		}
	}
}

// expectOutcomes waits until the appends end, and checks that each returned want.
func (s *syncTest) expectOutcomes(want error, outcomes ...chan error) {
	s.t.Helper()
	for _, outcome := range outcomes {
		if err := <-outcome; !errors.Is(err, want) || err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			s.t.Fatalf("an append returned %v, want %v", err, want)
		}
	}
}

func (s *syncTest) countRows(l *Log) int64 {
	rows, _, _, _ := l.Size(-1)
	return rows
}

// TestShareSync checks that all appends that are written while a sync runs share the next sync, even
// if they belong to several tables. A fold (EndEpoch and then Forget) must not change their outcome.
func TestShareSync(t *testing.T) {
	s := newSyncTest(t)
	a, b := s.s.Log(table, -1), s.s.Log("other", -1)
	first := s.append(t.Context(), a, "")
	s.waitForSync()
	all := []chan error{s.append(t.Context(), a, ""), s.append(t.Context(), b, ""), s.append(t.Context(), b, "")}
	if s.countRows(a) != 2 || s.countRows(b) != 2 {
		t.Fatal("appended rows are not visible before they are synced")
	}
	s.outcome <- nil
	s.expectOutcomes(nil, first)
	s.waitForSync()
	s.expectWaiting(all...)
	last, ok, err := b.EndEpoch(t.Context())
	if err != nil || !ok {
		t.Fatalf("EndEpoch = %v, %v, want an epoch with rows", ok, err)
	}
	must.Do(t, b.Forget(t.Context(), last))
	s.expectWaiting(all...)
	s.outcome <- nil
	s.expectOutcomes(nil, all...)
}

// TestSyncFails checks that a failed sync fails exactly the appends that waited for it. The log
// must then read the store again, and sync before these appends count as applied.
func TestSyncFails(t *testing.T) {
	s := newSyncTest(t)
	a, b := s.s.Log(table, -1), s.s.Log("other", -1)
	first := s.append(t.Context(), a, "one")
	s.waitForSync()
	second, third := s.append(t.Context(), a, "two"), s.append(t.Context(), b, "three")
	s.outcome <- errDisk
	s.expectOutcomes(errDisk, first)
	s.waitForSync()
	s.expectWaiting(second, third)
	s.outcome <- nil
	s.expectOutcomes(nil, second, third)
	for _, want := range []error{errDisk, nil} { // the failed sync must not be forgotten because a later one succeeded
		got := make(chan error, 1)
		go func() {
			ok, err := a.Applied(t.Context(), "one")
			if err == nil && !ok {
				err = errors.New("the append is missing")
			}
			got <- err
		}()
		s.waitForSync()
		s.expectWaiting(got)
		s.outcome <- want
		if err := <-got; !errors.Is(err, want) || errors.Is(err, partd.ErrUnknownOutcome) != (want != nil) {
			t.Fatalf("Applied after a sync that returned %v: got %v", want, err)
		}
	}
	// Rows that the store lost must no longer be returned.
	lost := s.append(t.Context(), b, "")
	s.waitForSync()
	must.Do(t, s.Delete(t.Context(), b.key(0)))
	s.outcome <- errDisk
	s.expectOutcomes(errDisk, lost)
	if _, _, err := b.EndEpoch(t.Context()); err != nil || s.countRows(b) != 0 {
		t.Fatalf("after the store lost the row, the log has %d rows, %v, want none", s.countRows(b), err)
	}
}

// TestSyncCanceled checks that a canceled context fails only its own append, even if that append runs the
// sync for others.
func TestSyncCanceled(t *testing.T) {
	s := newSyncTest(t)
	l := s.s.Log(table, -1)
	leaderCtx, cancelLeader := context.WithCancel(t.Context())
	followerCtx, cancelFollower := context.WithCancel(t.Context())
	leader := s.append(leaderCtx, l, "")
	s.waitForSync()
	canceled, remaining := s.append(followerCtx, l, ""), s.append(t.Context(), l, "")
	s.expectWaiting(canceled, remaining)
	cancelFollower()
	s.expectOutcomes(context.Canceled, canceled)
	cancelLeader()
	s.expectOutcomes(context.Canceled, leader)
	s.waitForSync()
	s.expectWaiting(remaining)
	s.outcome <- nil
	s.expectOutcomes(nil, remaining)
}

// TestAppliedWaits checks that a retried put waits for the same sync as its first attempt.
func TestAppliedWaits(t *testing.T) {
	s := newSyncTest(t)
	l := s.s.Log(table, -1)
	first := s.append(t.Context(), l, "id")
	s.waitForSync()
	retried := make(chan error, 1)
	go func() {
		ok, err := l.Applied(t.Context(), "id")
		if !ok {
			err = fmt.Errorf("the append is missing: %w", err)
		}
		retried <- err
	}()
	s.expectWaiting(first, retried)
	s.outcome <- nil
	s.expectOutcomes(nil, first, retried)
	second := s.append(t.Context(), l, "other")
	s.waitForSync()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { retried <- must.Err(l.Applied(ctx, "other")) }()
	s.expectWaiting(retried)
	cancel()
	s.expectOutcomes(context.Canceled, retried) // although the row may be applied
	s.outcome <- nil
	s.expectOutcomes(nil, second)
	if ok, err := l.Applied(t.Context(), "id"); !ok || err != nil { // the append is durable, so Applied must not wait for another sync
		t.Fatalf("Applied = %v, %v, want true", ok, err)
	}
}

// TestDiscardIsSynced checks that Discard syncs, so that the rows do not reappear after a power
// loss.
func TestDiscardIsSynced(t *testing.T) {
	s := newSyncTest(t)
	l := s.s.Log("a", -1)
	put := s.append(t.Context(), l, "")
	s.waitForSync()
	s.outcome <- nil
	s.expectOutcomes(nil, put)
	discarded := make(chan error, 1)
	go func() { discarded <- s.s.Discard(t.Context(), l) }()
	s.waitForSync()
	s.expectWaiting(discarded)
	s.outcome <- nil
	s.expectOutcomes(nil, discarded)
}
