package parallel

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestEach checks that Each handles all items in at most the given number of workers, and that it reads an item only
// when a worker is free.
func TestEach(t *testing.T) {
	var read, begun, done atomic.Int64
	items := func(yield func(int64) bool) {
		for i := range int64(30) {
			if n := read.Add(1) - done.Load(); n > 3 {
				t.Errorf("%d items were read and are not done, want at most 3", n)
			}
			if !yield(i) {
				return
			}
		}
	}
	err := Each(t.Context(), items, 3, func(_ context.Context, i int64) error {
		begun.Add(1)
		done.Add(1)
		return nil
	})
	if err != nil || begun.Load() != 30 {
		t.Errorf("Each handled %d items, error %v; want 30", begun.Load(), err)
	}
}

// TestEachStops checks that Each returns the first error, and reads no items after it.
func TestEachStops(t *testing.T) {
	failure := errors.New("failure")
	read := 0
	items := func(yield func(int) bool) {
		for i := range 1000 {
			if read++; !yield(i) {
				return
			}
		}
	}
	err := Each(t.Context(), items, 1, func(_ context.Context, i int) error {
		if i == 2 {
			return failure
		}
		return nil
	})
	if !errors.Is(err, failure) || read > 4 {
		t.Errorf("Each read %d items, error %v; want at most 4 items and the error of the third", read, err)
	}
}

// TestWorkers checks how many workers Each has by default, and that a context can limit it to one.
func TestWorkers(t *testing.T) {
	for ctx, want := range map[context.Context]int{t.Context(): DefaultWorkers, Sequential(t.Context()): 1} {
		var busy, most atomic.Int64
		begun := make(chan struct{}, 20)
		err := Each(ctx, slices.Values(make([]int, 20)), 0, func(context.Context, int) error {
			most.Store(max(most.Load(), busy.Add(1)))
			defer busy.Add(-1)
			begun <- struct{}{}
			for len(begun) < want { // until all workers have an item
				runtime.Gosched()
			}
			time.Sleep(time.Millisecond)
			return nil
		})
		if err != nil || int(most.Load()) > want || want > 1 && most.Load() < 2 {
			t.Errorf("%d workers at once, error %v, want at most %d", most.Load(), err, want)
		}
	}
}
