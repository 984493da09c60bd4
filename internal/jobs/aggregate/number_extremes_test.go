package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLongDecimals checks that decimals around the limit of exact integers are parsed as the nearest float.
func TestLongDecimals(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		m := strconv.FormatUint(1<<53-1000+random.Uint64N(1<<54), 10)
		i := random.IntN(len(m) + 1)
		text := m[:i] + "." + m[i:]
		want := must.Get(strconv.ParseFloat(text, 64))(t)
		if n, ok := ParseNumber([]byte(text)); !ok || !n.Float || n.Float64() != want {
			t.Fatalf("ParseNumber(%q) = %v, %v, want %v", text, n.Float64(), ok, want)
		}
	}
}

// TestCorrelationOfSmallAndLargeNumbers checks that the correlation does not depend on the unit of the numbers, even if
// the product of their squares is outside the range of float64.
func TestCorrelationOfSmallAndLargeNumbers(t *testing.T) {
	correlation := func(unit float64) float64 {
		s := make([]uint64, pairsWords)
		for i, y := range []float64{1, 3, 2, 5, 4, 9} {
			addToPairs(s, float64(i)*unit, y*unit)
		}
		return decodePairs(s).correlation()
	}
	want := correlation(1)
	if want < 0.5 || want > 0.95 {
		t.Fatalf("the correlation is %v, want one that is not clear", want)
	}
	for _, exponent := range []int{-150, -100, -80, -79, -78, -77, -75, -73, 70, 76, 77, 100, 150} {
		if got := correlation(math.Pow10(exponent)); math.Abs(got-want) > 1e-12 {
			t.Errorf("the correlation of numbers times %s is %v, want %v", fmt.Sprintf("1e%d", exponent), got, want)
		}
	}
}
