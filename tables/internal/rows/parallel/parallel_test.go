package parallel

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
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

// TestAhead checks that Ahead yields all items up to an error in order, and that items are either yielded or dropped if
// the consumer stops early.
func TestAhead(t *testing.T) {
	failure := errors.New("failure")
	for stopAt := range 12 {
		var prepared, yielded []int
		dropped := make(chan int, 10)
		items := func(yield func(int, error) bool) {
			for i := range 10 {
				if prepared = append(prepared, i); !yield(i, nil) {
					return
				}
			}
			yield(-1, failure)
		}
		var err error
		for i, e := range Ahead(items, 2, func(i int) { dropped <- i }) {
			if err = e; err == nil {
				yielded = append(yielded, i)
			}
			if i == stopAt {
				break
			}
		}
		if want := min(stopAt+1, 10); len(yielded) != want || (stopAt >= 10) != errors.Is(err, failure) {
			t.Errorf("the items %v were yielded, and the error is %v; want %d items", yielded, err, want)
		}
		all, unused := slices.Clone(yielded), len(dropped)
		for range unused {
			all = append(all, <-dropped)
		}
		if slices.Sort(all); !slices.Equal(all, prepared) || unused > 3 {
			t.Errorf("%v were prepared, %v yielded, %d dropped", prepared, yielded, unused)
		}
	}
}
