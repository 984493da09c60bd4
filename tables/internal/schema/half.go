package schema

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow/float16"
)

// Half returns the float16 that is nearest to a number. Arrow's library cuts digits
// off, and makes the smallest numbers zeros.
func Half(f float64) float16.Num {
	const smallest = -14 // the exponent below which all numbers have the same distance
	a := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return float16.New(float32(math.NaN()))
	case a == 0 || math.IsInf(f, 0):
		return float16.New(float32(f))
	}
	distance := math.Ldexp(1, max(math.Ilogb(a), smallest)-10)
	a = math.RoundToEven(a/distance) * distance
	if a >= math.Ldexp(1, smallest) {
		return float16.New(float32(math.Copysign(a, f)))
	}
	bits := uint16(a / distance)
	if math.Signbit(f) {
		bits |= 1 << 15
	}
	return float16.FromBits(bits)
}

// FromHalf returns the number that a float16 is.
func FromHalf(n float16.Num) float32 {
	const exponent, fraction, sign = 0x7c00, 0x3ff, 0x8000
	bits := n.Uint16()
	if bits&exponent != 0 {
		return n.Float32()
	}
	f := float64(bits&fraction) / (1 << 24)
	if bits&sign != 0 {
		f = math.Copysign(f, -1)
	}
	return float32(f)
}
