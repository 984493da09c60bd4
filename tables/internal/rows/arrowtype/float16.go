package arrowtype

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow/float16"
)

// ToFloat16 returns the nearest float16. Arrow's own conversion truncates digits and turns the smallest numbers into
// zero.
func ToFloat16(f float64) float16.Num {
	const minExponent = -14 // exponent of the smallest normal numbers; all smaller numbers have the same spacing
	a := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return float16.New(float32(math.NaN()))
	case a == 0 || math.IsInf(f, 0):
		return float16.New(float32(f))
	}
	spacing := math.Ldexp(1, max(math.Ilogb(a), minExponent)-10)
	a = math.RoundToEven(a/spacing) * spacing
	if a >= math.Ldexp(1, minExponent) {
		return float16.New(float32(math.Copysign(a, f)))
	}
	bits := uint16(a / spacing)
	if math.Signbit(f) {
		bits |= 1 << 15
	}
	return float16.FromBits(bits)
}

// FromFloat16 returns a float16 as a float32.
func FromFloat16(n float16.Num) float32 {
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
