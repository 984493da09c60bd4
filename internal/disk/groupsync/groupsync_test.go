package groupsync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

var errDisk = errors.New("the disk failed")

// disk simulates a file with numbered writes. A test decides when and how each sync ends.
type disk struct {
	Group
	written, durable atomic.Uint64
	begun            chan struct{} // each sync sends a value when it begins
	outcome          chan error    // each sync receives its result
	calls            atomic.Int64
}

func newDisk() *disk { return &disk{begun: make(chan struct{}), outcome: make(chan error)} }

func (d *disk) sync(ctx context.Context) (uint64, error) {
	d.calls.Add(1)
	upTo := d.written.Load()
	d.begun <- struct{}{}
	select {
	case err := <-d.outcome:
		if err == nil {
			d.durable.Store(upTo)
		}
		return upTo, err
	case <-ctx.Done():
		return upTo, ctx.Err()
	}
}

// write simulates a write, and waits for its sync in the background. outcome receives the result.
func (d *disk) write(ctx context.Context) (outcome chan error) {
	pos := d.written.Add(1)
	outcome = make(chan error, 1)
	go func() {
		err := d.Wait(ctx, pos, d.sync)
		if err == nil && d.durable.Load() < pos {
			err = fmt.Errorf("position %d is acknowledged, but only %d is synced", pos, d.durable.Load())
		}
		outcome <- err
	}()
	return outcome
}

// awaitSync waits until the next sync has begun.
func (d *disk) awaitSync(t *testing.T) {
	t.Helper()
	must.Receive(t, d.begun, 10*time.Second, "the begin of a sync")
}

// expectWaiting fails the test if a write has already returned.
func expectWaiting(t *testing.T, outcome chan error) {
	t.Helper()
	must.NotReceive(t, outcome, 20*time.Millisecond, "the write returned before its sync")
}

// TestFailure checks that exactly the writes that a failed sync covers return its error.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		pos := d.written.Add(2)
		firstErr, secondErr := make(chan error, 1), make(chan error, 1)
		go func() { firstErr <- d.Wait(t.Context(), pos-1, d.sync) }()
		d.awaitSync(t)
		go func() { secondErr <- d.Wait(t.Context(), pos, d.sync) }()
		synctest.Wait() // the second caller waits for the running sync
		later := d.write(t.Context())
		synctest.Wait()
		d.outcome <- errDisk
		if a, b := <-firstErr, <-secondErr; !errors.Is(a, errDisk) || !errors.Is(b, errDisk) {
			t.Fatalf("Wait = %v and %v, want %v", a, b, errDisk)
		}
		d.awaitSync(t)
		expectWaiting(t, later)
		d.outcome <- nil
		must.Do(t, <-later)
	})
}

// TestContextEnds checks that if one caller's context ends, only that caller fails, even if it is syncing for others.
func TestContextEnds(t *testing.T) {
	d := newDisk()
	leaderCtx, stop := context.WithCancel(t.Context())
	followerCtx, leave := context.WithCancel(t.Context())
	pos := d.written.Add(3)
	wait := func(ctx context.Context, pos uint64) chan error {
		outcome := make(chan error, 1)
		go func() { outcome <- d.Wait(ctx, pos, d.sync) }()
		return outcome
	}
	leader := wait(leaderCtx, pos-2)
	d.awaitSync(t)
	leaving, staying := wait(followerCtx, pos-1), wait(t.Context(), pos)
	expectWaiting(t, leaving)
	leave()
	if err := <-leaving; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	expectWaiting(t, staying)
	stop()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	d.awaitSync(t)
	expectWaiting(t, staying)
	d.outcome <- nil
	must.Do(t, <-staying)
}

// TestPanic checks that if a sync panics, a caller that waits for it starts another sync.
func TestPanic(t *testing.T) {
	d := newDisk()
	d.written.Add(2)
	begun, proceed := make(chan struct{}), make(chan struct{})
	panicked := make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		_ = d.Wait(t.Context(), 1, func(context.Context) (uint64, error) {
			close(begun)
			<-proceed
			panic("a panic")
		})
	}()
	<-begun
	waiter := make(chan error, 1)
	go func() { waiter <- d.Wait(t.Context(), 2, d.sync) }()
	expectWaiting(t, waiter)
	close(proceed)
	if <-panicked == nil {
		t.Fatal("Wait did not pass the panic on")
	}
	d.awaitSync(t)
	d.outcome <- nil
	must.Do(t, <-waiter)
}

// TestManyWriters uses many writers, failing syncs and callers whose context ends. It checks that
// acknowledged writes are synced, that every error comes from a failed sync, and that syncs are shared.
func TestManyWriters(t *testing.T) {
	d := newDisk()
	end := time.After(300 * time.Millisecond)
	done := make(chan struct{})
	var disks, writers sync.WaitGroup
	disks.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-d.begun:
			case <-done:
				return
			}
			time.Sleep(time.Millisecond)
			var err error
			if n%7 == 6 {
				err = errDisk
			}
			select {
			case d.outcome <- err:
			case <-time.After(50 * time.Millisecond): // the caller's context has ended
			}
		}
	})
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	for i := range 16 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if i < 3 {
					ctx, cancel = context.WithTimeout(ctx, 2*time.Millisecond)
				}
				err := <-d.write(ctx)
				cancel()
				switch {
				case err == nil:
					acknowledged.Add(1)
				case !errors.Is(err, errDisk) && (i >= 3 || !errors.Is(err, context.DeadlineExceeded)):
					t.Error(err)
					return
				}
			}
		})
	}
	<-end
	close(stop)
	writers.Wait()
	close(done)
	disks.Wait()
	if n := acknowledged.Load(); n == 0 || d.calls.Load() > n {
		t.Errorf("%d syncs for %d acknowledged writes, want fewer syncs than writes", d.calls.Load(), n)
	}
}
