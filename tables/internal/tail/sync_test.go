package tail

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
)

var errDisk = errors.New("the disk")

// slowSync is a store whose syncs wait for the test.
type slowSync struct {
	*partd.Dict
	begun   chan struct{}
	outcome chan error
}

func (s *slowSync) Sync(ctx context.Context) error {
	s.begun <- struct{}{}
	select {
	case err := <-s.outcome:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// syncs is a tail in a slowSync store, with rows to append.
type syncs struct {
	*slowSync
	t    *testing.T
	s    *Store
	rows arrow.RecordBatch
}

func newSyncs(t *testing.T) *syncs {
	p := &slowSync{partd.NewDict(), make(chan struct{}), make(chan error)}
	go func() {
		<-p.begun
		p.outcome <- nil // for Open
	}()
	s, err := Open(t.Context(), p, "w", true, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	rows := batchOf(t, schema, 1)
	t.Cleanup(rows.Release)
	return &syncs{p, t, s, rows}
}

// next waits until the next sync begins.
func (s *syncs) next() {
	s.t.Helper()
	select {
	case <-s.begun:
	case <-time.After(10 * time.Second):
		s.t.Fatal("nobody syncs")
	}
}

// append appends a row to a table, and returns when the store has it.
func (s *syncs) append(ctx context.Context, l *Log, id string) (outcome chan error) {
	s.t.Helper()
	f, err := new(Encoder).Encode(s.rows.Schema(), []arrow.RecordBatch{s.rows}, id)
	if err != nil {
		s.t.Fatal(err)
	}
	done, err := l.Append(ctx, f, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	outcome = make(chan error, 1)
	go func() { outcome <- done.Sync(ctx) }()
	return outcome
}

func (s *syncs) waits(outcomes ...chan error) {
	s.t.Helper()
	time.Sleep(20 * time.Millisecond)
	for _, outcome := range outcomes {
		if len(outcome) > 0 {
			s.t.Fatalf("it had its outcome before its sync: %v", <-outcome)
		}
	}
}

func (s *syncs) want(is error, outcomes ...chan error) {
	s.t.Helper()
	for _, outcome := range outcomes {
		if err := <-outcome; !errors.Is(err, is) || err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			s.t.Fatalf("it ended with %v, want %v", err, is)
		}
	}
}

// rowsOf counts a log's rows.
func (s *syncs) rowsOf(l *Log) int64 {
	rows, _, _, _ := l.Size(-1)
	return rows
}

// TestShareSync checks that appends written after the start of a sync share the next sync, also
// across tables. A fold must not change their outcome.
func TestShareSync(t *testing.T) {
	s := newSyncs(t)
	a, b := s.s.Log(table, -1), s.s.Log("other", -1)
	first := s.append(t.Context(), a, "")
	s.next()
	all := []chan error{s.append(t.Context(), a, ""), s.append(t.Context(), b, ""), s.append(t.Context(), b, "")}
	if s.rowsOf(a) != 2 || s.rowsOf(b) != 2 {
		t.Fatal("rows wait for a sync to be seen")
	}
	s.outcome <- nil
	s.want(nil, first)
	s.next()
	s.waits(all...)
	last, ok, err := b.Turn(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := b.Forget(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s.waits(all...)
	s.outcome <- nil
	s.want(nil, all...)
}

// TestSyncFails checks that a failed sync fails exactly the appends that waited for it. The log
// must then read the store again, and sync before these appends count as applied.
func TestSyncFails(t *testing.T) {
	s := newSyncs(t)
	a, b := s.s.Log(table, -1), s.s.Log("other", -1)
	first := s.append(t.Context(), a, "one")
	s.next()
	second, third := s.append(t.Context(), a, "two"), s.append(t.Context(), b, "three")
	s.outcome <- errDisk
	s.want(errDisk, first)
	s.next()
	s.waits(second, third)
	s.outcome <- nil
	s.want(nil, second, third)
	for _, want := range []error{errDisk, nil} { // a later sync must not hide the first one's failure
		got := make(chan error, 1)
		go func() {
			ok, err := a.Applied(t.Context(), "one")
			if err == nil && !ok {
				err = errors.New("it is gone")
			}
			got <- err
		}()
		s.next()
		s.waits(got)
		s.outcome <- want
		if err := <-got; !errors.Is(err, want) || errors.Is(err, partd.ErrUnknownOutcome) != (want != nil) {
			t.Fatalf("asked for it: %v, want %v", err, want)
		}
	}
	// Rows that the store lost must no longer be returned.
	lost := s.append(t.Context(), b, "")
	s.next()
	if err := s.Delete(t.Context(), b.key(0)); err != nil {
		t.Fatal(err)
	}
	s.outcome <- errDisk
	s.want(errDisk, lost)
	if _, _, err := b.Turn(t.Context()); err != nil || s.rowsOf(b) != 0 {
		t.Fatal(s.rowsOf(b), err)
	}
}

// TestSyncIsLeft checks that a canceled context fails only its own append, even if that append runs
// the sync for others.
func TestSyncIsLeft(t *testing.T) {
	s := newSyncs(t)
	l := s.s.Log(table, -1)
	leads, stop := context.WithCancel(t.Context())
	follows, leave := context.WithCancel(t.Context())
	leader := s.append(leads, l, "")
	s.next()
	left, stays := s.append(follows, l, ""), s.append(t.Context(), l, "")
	s.waits(left, stays)
	leave()
	s.want(context.Canceled, left)
	stop()
	s.want(context.Canceled, leader)
	s.next()
	s.waits(stays)
	s.outcome <- nil
	s.want(nil, stays)
}

// TestAppliedWaits checks that a retried put waits for the same sync as its first attempt.
func TestAppliedWaits(t *testing.T) {
	s := newSyncs(t)
	l := s.s.Log(table, -1)
	first := s.append(t.Context(), l, "id")
	s.next()
	again := make(chan error, 1)
	go func() {
		ok, err := l.Applied(t.Context(), "id")
		if !ok {
			err = fmt.Errorf("it is not there: %w", err)
		}
		again <- err
	}()
	s.waits(first, again)
	s.outcome <- nil
	s.want(nil, first, again)
	second := s.append(t.Context(), l, "other")
	s.next()
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		_, err := l.Applied(ctx, "other")
		again <- err
	}()
	s.waits(again)
	leave()
	s.want(context.Canceled, again) // the row may be applied nevertheless
	s.outcome <- nil
	s.want(nil, second)
	if ok, err := l.Applied(t.Context(), "id"); !ok || err != nil { // now durable, so no further sync is needed
		t.Fatal(ok, err)
	}
}

// TestDiscardIsSynced checks that Discard syncs, so that the rows do not reappear after a power
// loss.
func TestDiscardIsSynced(t *testing.T) {
	s := newSyncs(t)
	l := s.s.Log("a", -1)
	put := s.append(t.Context(), l, "")
	s.next()
	s.outcome <- nil
	s.want(nil, put)
	discarded := make(chan error, 1)
	go func() { discarded <- s.s.Discard(t.Context(), l) }()
	s.next()
	s.waits(discarded)
	s.outcome <- nil
	s.want(nil, discarded)
}
