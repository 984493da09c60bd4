package parallel

import (
	"errors"
	"slices"
	"testing"
)

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
