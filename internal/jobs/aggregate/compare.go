package aggregate

import (
	"encoding/binary"
	"math"
)

// Comparison holds the results of comparing values with a number.
type Comparison struct {
	Less, Equal, Greater byte
	Missing              byte // for an empty value
	Invalid              byte // for a value that is neither empty nor a number
}

// CompareColumn compares the values data[from[i]:to[i]] with x, and sets each out[i] to the result in c.
func CompareColumn(data []byte, from, to []uint32, x Number, c Comparison, out []byte) {
	to, out = to[:len(from)], out[:len(from)]
	limit, isExact := x.ExactFloat64()
	for i, start := range from {
		n := to[i] - start
		if n == 0 {
			out[i] = c.Missing
			continue
		}
		if n <= 8 && int(start)+8 <= len(data) && isExact {
			word, sign, decimals := binary.LittleEndian.Uint64(data[start:]), uint64(0), -1
			if byte(word) == '-' {
				sign = 1
			}
			// Most columns have integers, for which inlined code is faster than shortDigits.
			digits := word>>(8*sign)<<((64-8*(n-uint32(sign)))&63) | zeros>>(8*(n-uint32(sign)))
			ok := areDigits(digits) && n > uint32(sign)
			if ok {
				digits = combineDigits(digits)
			} else {
				sign, digits, decimals, ok = shortDigits(word, n)
			}
			if ok {
				f := float64(int64(digits)) // a uint64 would be converted with a branch
				if decimals > 0 {
					f /= exactPowers[decimals]
				}
				f = math.Float64frombits(math.Float64bits(f) | sign<<63)
				result := c.Equal
				if f > limit {
					result = c.Greater
				}
				if f < limit {
					result = c.Less
				}
				out[i] = result
				continue
			}
		}
		if v, ok := ParseNumber(data[start:to[i]]); ok {
			out[i] = [3]byte{c.Less, c.Equal, c.Greater}[v.Compare(x)+1]
		} else {
			out[i] = c.Invalid
		}
	}
}
