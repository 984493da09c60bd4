package extsort

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The functions below encode values so that bytes.Compare orders the encodings like the values. No
// encoding is a prefix of another encoding by the same function, so concatenated encodings sort by
// the first value, then by the second. Unencoded bytes also sort correctly at the end of a key,
// unless they are inverted.

// AppendUint encodes an unsigned integer in 8 bytes.
func AppendUint(dst []byte, x uint64) []byte { return binary.BigEndian.AppendUint64(dst, x) }

// AppendFloat encodes a floating-point number in 8 bytes. -0 is encoded as 0. NaN sorts before
// all other numbers, as in cmp.Compare.
func AppendFloat(dst []byte, x float64) []byte {
	switch {
	case math.IsNaN(x):
		return AppendUint(dst, 0)
	case x == 0:
		x = 0 // also turns -0 into 0
	}
	b := math.Float64bits(x)
	if b>>63 == 1 {
		return AppendUint(dst, ^b)
	}
	return AppendUint(dst, b|1<<63)
}

// AppendText encodes bytes of any length. The encoding has a 255 after each zero byte, and two
// zero bytes at the end.
func AppendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := range len(s) {
		if s[i] == 0 {
			return appendEscaped(dst, s)
		}
	}
	dst = append(dst, s...)
	return append(dst, 0, 0)
}

func appendEscaped[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := range len(s) {
		dst = append(dst, s[i])
		if s[i] == 0 {
			dst = append(dst, 255)
		}
	}
	return append(dst, 0, 0)
}

// Invert reverses the sort order of an encoding, in place.
func Invert(encoded []byte) {
	for len(encoded) >= 8 {
		binary.LittleEndian.PutUint64(encoded, ^binary.LittleEndian.Uint64(encoded))
		encoded = encoded[8:]
	}
	for i := range encoded {
		encoded[i] = ^encoded[i]
	}
}

// TextLen returns the length of the AppendText encoding at the beginning of a key.
func TextLen(key []byte) int {
	end := 0
	for {
		end += bytes.IndexByte(key[end:], 0) + 2
		if key[end-1] == 0 {
			return end
		}
	}
}

// First bytes of encoded decimal numbers.
const (
	decimalNegative = 1
	decimalZero     = 2
	decimalPositive = 3
)

const (
	shortExponent = 100  // exponents from -100 to 100 are encoded in one byte, others in nine
	zeroExponent  = 0x80 // encoding of exponent 0
	lowExponent   = 0x08 // first byte of lower exponents
	highExponent  = 0xf8 // first byte of higher exponents
	maxExponent   = 1 << 60
)

// AppendDecimal encodes a decimal number of any length exactly, for example -12.50 or 6e23.
// 1, 1.0 and 10e-1 have the same encoding. If text is not a number, AppendDecimal returns dst
// unchanged and false.
//
// The encoding consists of a byte for the sign, the exponent e of ±0.d₁d₂d₃… × 10ᵉ, a byte
// for each pair of digits (01 to 64 hexadecimal), and a zero byte. For a negative number, all
// bytes after the first are inverted.
func AppendDecimal[S ~string | ~[]byte](dst []byte, text S) ([]byte, bool) {
	d, ok := parseDecimal(text)
	switch {
	case !ok:
		return dst, false
	case d.first == d.last:
		return append(dst, decimalZero), true
	}
	start := len(dst)
	dst = append(dst, decimalPositive)
	if d.negative {
		dst[start] = decimalNegative
	}
	switch {
	case d.exponent < -shortExponent:
		dst = append(dst, lowExponent)
		dst = binary.BigEndian.AppendUint64(dst, uint64(d.exponent)^1<<63)
	case d.exponent > shortExponent:
		dst = append(dst, highExponent)
		dst = binary.BigEndian.AppendUint64(dst, uint64(d.exponent)^1<<63)
	default:
		dst = append(dst, byte(zeroExponent+d.exponent))
	}
	dst = appendDigits(dst, text[d.first:d.last])
	if d.negative {
		Invert(dst[start+1:])
	}
	return dst, true
}

func appendDigits[S ~string | ~[]byte](dst []byte, text S) []byte {
	pair, hasHalf := byte(0), false
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 {
			continue
		}
		if hasHalf {
			dst = append(dst, pair+c+1)
		} else {
			pair = 10 * c
		}
		hasHalf = !hasHalf
	}
	if hasHalf {
		dst = append(dst, pair+1)
	}
	return append(dst, 0)
}

// decimal is ±0.d₁d₂d₃… × 10^exponent. Its digits are in text[first:last], which neither begins
// nor ends with a zero and is empty for 0.
type decimal struct {
	negative    bool
	first, last int
	exponent    int64
}

func parseDecimal[S ~string | ~[]byte](text S) (d decimal, ok bool) {
	i := 0
	if i < len(text) && (text[i] == '-' || text[i] == '+') {
		d.negative = text[i] == '-'
		i++
	}
	point, digits, nonzero := -1, 0, false
	leadingZeros := 0
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.' && point < 0:
			point = digits
		case c < '0' || c > '9':
			goto exponent
		default:
			if c != '0' {
				if !nonzero {
					d.first, leadingZeros, nonzero = i, digits, true
				}
				d.last = i + 1
			}
			digits++
		}
	}
exponent:
	if digits == 0 {
		return d, false
	}
	if point < 0 {
		point = digits
	}
	d.exponent = int64(point) - int64(leadingZeros)
	if i == len(text) {
		return d, true
	}
	if text[i] != 'e' && text[i] != 'E' {
		return d, false
	}
	e, ok := parseExponent(text[i+1:])
	d.exponent += e
	return d, ok
}

func parseExponent[S ~string | ~[]byte](text S) (e int64, ok bool) {
	negative := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		negative = text[0] == '-'
		text = text[1:]
	}
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 || e > math.MaxInt64/10-10 {
			return 0, false
		}
		e = 10*e + int64(c)
	}
	if e > maxExponent {
		return 0, false
	}
	if negative {
		e = -e
	}
	return e, len(text) > 0
}
