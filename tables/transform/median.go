package transform

import (
	"math/bits"
	"slices"
)

// middle is the median of numbers, which it puts in another order.
func middle[T number](values []T) float64 {
	half := len(values) / 2
	place(values, half)
	if len(values)%2 > 0 {
		return float64(values[half])
	}
	return float64(slices.Max(values[:half]))*0.5 + float64(values[half])*0.5 // as the engine does
}

const fewValues = 16 // are sorted

// place puts numbers in another order: at n is the one that would be there if they were
// sorted, and before it are none that are greater.
func place[T number](values []T, n int) {
	for rounds := 4 * bits.Len(uint(len(values))); rounds > 0 && len(values) > fewValues; rounds-- {
		a, b, c := values[0], values[len(values)/2], values[len(values)-1]
		pivot := max(min(a, b), min(max(a, b), c))
		less := 0
		for i, v := range values { // without a branch, which would be mispredicted half of the time
			values[i] = values[less]
			values[less] = v
			step := 0
			if v < pivot {
				step = 1
			}
			less += step
		}
		switch {
		case n < less:
			values = values[:less]
			continue
		case less == 0: // the pivot is the least
			for i, v := range values {
				values[i] = values[less]
				values[less] = v
				if v <= pivot {
					less++
				}
			}
			if n < less {
				return
			}
		}
		values, n = values[less:], n-less
	}
	slices.Sort(values)
}

// distinct counts different numbers, which it sorts.
func distinct[T number](values []T) int64 {
	slices.Sort(values)
	n := int64(0)
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			n++
		}
	}
	return n
}
