package encode

import "math"

// Float16 holds the bits of a 16-bit floating-point number (IEEE 754 binary16).
type Float16 uint16

// NewFloat16 rounds f to the nearest Float16, and ties to even.
func NewFloat16(f float32) Float16 {
	bits := math.Float32bits(f)
	sign := uint16(bits>>16) & 0x8000
	exponent := int(bits>>23)&0xff - 127 + 15
	fraction := bits & 0x7fffff
	switch {
	case exponent == 0xff-127+15 && fraction != 0: // NaN, with what fits of its bits
		return Float16(sign | 0x7e00 | uint16(fraction>>13))
	case exponent >= 31: // too large, or infinite
		return Float16(sign | 0x7c00)
	case exponent < -10: // nearer to 0 than to the smallest
		return Float16(sign)
	case exponent <= 0: // subnormal: the fraction with its leading 1, moved right
		return Float16(sign + roundOff(fraction|0x800000, uint(14-exponent)))
	}
	// Rounding up may carry into the exponent, which is right.
	return Float16(sign + uint16(exponent)<<10 + roundOff(fraction, 13))
}

// roundOff returns n without its lowest bits, rounded to even.
func roundOff(n uint32, bits uint) uint16 {
	half := uint32(1) << (bits - 1)
	kept := n >> bits
	if rest := n & (half<<1 - 1); rest > half || rest == half && kept&1 == 1 {
		kept++
	}
	return uint16(kept)
}

// Float32 converts h to a float32. The conversion is exact.
func (h Float16) Float32() float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10)&31, uint32(h)&0x3ff
	switch exponent {
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	case 0:
		f := float32(fraction) / (1 << 24)
		if sign != 0 {
			f = -f
		}
		return f
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
