package transform

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMedian compares the median and the number of distinct values with those of the sorted numbers, for
// different lengths and orders, with many equal numbers, and with infinities.
func TestMedian(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	shapes := map[string]func(i, n int) float64{
		"random":   func(_, _ int) float64 { return random.NormFloat64() },
		"few":      func(_, _ int) float64 { return float64(random.IntN(3)) },
		"equal":    func(_, _ int) float64 { return 7 },
		"rising":   func(i, _ int) float64 { return float64(i) },
		"falling":  func(i, n int) float64 { return float64(n - i) },
		"organ":    func(i, n int) float64 { return float64(min(i, n-i)) },
		"infinite": func(i, _ int) float64 { return []float64{math.Inf(1), math.Inf(-1), float64(i)}[random.IntN(3)] },
		"huge":     func(i, _ int) float64 { return math.MaxFloat64 * (1 - 2*float64(i%2)) },
	}
	for name, shape := range shapes {
		for n := 1; n < 300; n++ {
			checkMedian(t, name, n, shape)
		}
		checkMedian(t, name, 100_001, shape)
		checkMedian(t, name, 100_000, shape)
	}
	// The middle integers are selected before the conversion to floats.
	if got := median([]uint64{math.MaxUint64, 1, math.MaxUint64 - 1}); got != float64(math.MaxUint64) {
		t.Errorf("the median of large integers is %v, want %v", got, float64(math.MaxUint64))
	}
}

func checkMedian(t *testing.T, name string, n int, shape func(i, n int) float64) {
	t.Helper()
	values := make([]float64, n)
	for i := range values {
		values[i] = shape(i, n)
	}
	sorted := slices.Sorted(slices.Values(values))
	want := sorted[n/2]
	if n%2 == 0 {
		want = sorted[n/2-1]/2 + sorted[n/2]/2
	}
	if got := median(values); got != want && (got == got || want == want) {
		t.Errorf("%s: the median of %d values is %v, want %v", name, n, got, want)
	}
	if got, want := countDistinct(values), len(slices.Compact(slices.Clone(sorted))); got != int64(want) {
		t.Errorf("%s: counted %d different values of %d, want %d", name, got, n, want)
	}
	if !slices.Equal(values, sorted) {
		t.Errorf("%s: countDistinct() did not sort the %d values, or changed some", name, n)
	}
}
