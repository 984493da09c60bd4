package batches

import (
	"errors"
	"slices"
	"testing"
)

type item struct {
	n       int
	dropped chan int
}

func (i item) Release() { i.dropped <- i.n }

// TestAhead checks that Ahead yields all items up to an error in order, and that items are either yielded or released if
// the consumer stops early.
func TestAhead(t *testing.T) {
	failure := errors.New("failure")
	for stopAt := range 12 {
		var prepared, yielded []int
		dropped := make(chan int, 10)
		items := func(yield func(item, error) bool) {
			for i := range 10 {
				if prepared = append(prepared, i); !yield(item{i, dropped}, nil) {
					return
				}
			}
			yield(item{n: -1}, failure)
		}
		var err error
		for i, e := range Ahead(items, 2) {
			if err = e; err == nil {
				yielded = append(yielded, i.n)
			}
			if i.n == stopAt {
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

// TestAheadPanics checks that a panic while items are prepared reaches the consumer, which can recover from it.
func TestAheadPanics(t *testing.T) {
	for count := range 2 { // items before the panic
		func() {
			defer func() {
				if p := recover(); p != "failed" {
					t.Errorf("recovered %v, want the panic of the items", p)
				}
			}()
			yielded := 0
			for range Ahead(func(yield func(item, error) bool) {
				for range count {
					yield(item{}, nil)
				}
				panic("failed")
			}, 2) {
				if yielded++; yielded > count {
					t.Errorf("%d items", yielded)
				}
			}
			t.Error("Ahead ended without the panic")
		}()
	}
}
