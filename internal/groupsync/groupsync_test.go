package groupsync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errDisk = errors.New("the disk")

// disk is a file of numbered writes, whose syncs a test can hold up.
type disk struct {
	Group
	written, durable atomic.Uint64
	begun            chan struct{} // told of each sync
	outcome          chan error    // of each sync; context.Canceled: that of the caller
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

// write writes, and waits for it to be synced.
func (d *disk) write(ctx context.Context) (outcome chan error) {
	pos := d.written.Add(1)
	outcome = make(chan error, 1)
	go func() {
		err := d.Wait(ctx, pos, d.sync)
		if err == nil && d.durable.Load() < pos {
			err = fmt.Errorf("%d is acknowledged, and %d is synced", pos, d.durable.Load())
		}
		outcome <- err
	}()
	return outcome
}

// next waits for the next sync.
func (d *disk) next(t *testing.T) {
	t.Helper()
	select {
	case <-d.begun:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody syncs")
	}
}

// waits fails the test if a write has its outcome.
func waits(t *testing.T, outcome chan error) {
	t.Helper()
	select {
	case err := <-outcome:
		t.Fatalf("it had its outcome before its sync: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
}

// What was written as a sync had begun waits for the next one, which all of that share.
func TestNextRound(t *testing.T) {
	d := newDisk()
	first := d.write(t.Context())
	d.next(t)
	second, third := d.write(t.Context()), d.write(t.Context())
	d.outcome <- nil
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	d.next(t)
	waits(t, second)
	waits(t, third)
	d.outcome <- nil
	if err := errors.Join(<-second, <-third); err != nil || d.calls.Load() != 2 {
		t.Fatalf("%d syncs: %v", d.calls.Load(), err)
	}
	if err := d.Wait(t.Context(), 3, nil); err != nil { // it is synced already
		t.Fatal(err)
	}
}

// A sync that fails is the error of all whose writes it was to sync, and of nobody else.
func TestFailure(t *testing.T) {
	d := newDisk()
	pos := d.written.Add(2)
	one, two := make(chan error, 1), make(chan error, 1)
	go func() { one <- d.Wait(t.Context(), pos-1, d.sync) }()
	d.next(t)
	go func() { two <- d.Wait(t.Context(), pos, d.sync) }()
	time.Sleep(20 * time.Millisecond) // until it waits for the same round
	later := d.write(t.Context())
	time.Sleep(20 * time.Millisecond)
	d.outcome <- errDisk
	if a, b := <-one, <-two; !errors.Is(a, errDisk) || !errors.Is(b, errDisk) {
		t.Fatal(a, b)
	}
	d.next(t)
	waits(t, later)
	d.outcome <- nil
	if err := <-later; err != nil {
		t.Fatal(err)
	}
}

// The end of one caller's context is the error of that caller alone, also of one who syncs for others.
func TestContextEnds(t *testing.T) {
	d := newDisk()
	leads, stop := context.WithCancel(t.Context())
	follows, leave := context.WithCancel(t.Context())
	pos := d.written.Add(3)
	wait := func(ctx context.Context, pos uint64) chan error {
		outcome := make(chan error, 1)
		go func() { outcome <- d.Wait(ctx, pos, d.sync) }()
		return outcome
	}
	leader := wait(leads, pos-2)
	d.next(t)
	left, stays := wait(follows, pos-1), wait(t.Context(), pos)
	waits(t, left)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	waits(t, stays)
	stop()
	if err := <-leader; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	d.next(t)
	waits(t, stays)
	d.outcome <- nil
	if err := <-stays; err != nil {
		t.Fatal(err)
	}
}

// Who waits for a sync that panics makes another one.
func TestPanic(t *testing.T) {
	d := newDisk()
	d.written.Add(2)
	begun, goOn := make(chan struct{}), make(chan struct{})
	panicked := make(chan any)
	go func() {
		defer func() { panicked <- recover() }()
		_ = d.Wait(t.Context(), 1, func(context.Context) (uint64, error) {
			close(begun)
			<-goOn
			panic("a panic")
		})
	}()
	<-begun
	other := make(chan error, 1)
	go func() { other <- d.Wait(t.Context(), 2, d.sync) }()
	waits(t, other)
	close(goOn)
	if <-panicked == nil {
		t.Fatal("the panic was swallowed")
	}
	d.next(t)
	d.outcome <- nil
	if err := <-other; err != nil {
		t.Fatal(err)
	}
}

// Many write at once, syncs fail now and then, and callers leave: what is acknowledged is synced, each
// failure has a sync that failed, and syncs are shared.
func TestMany(t *testing.T) {
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
			case <-time.After(50 * time.Millisecond): // its caller has left
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
		t.Errorf("%d syncs for %d writes that were acknowledged", d.calls.Load(), n)
	}
}
