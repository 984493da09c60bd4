package aggregate

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Values holds the parsed values of records for a [Program]. Both slices are indexed by column and record.
type Values struct {
	Numbers [][]Number // a boolean is 0 or 1
	Present [][]bool   // false for each empty value
}

// NewValues returns empty values with room for n records.
func (p *Program) NewValues(n int) *Values {
	v := &Values{}
	for range p.checks {
		v.Numbers, v.Present = append(v.Numbers, make([]Number, n)), append(v.Present, make([]bool, n))
	}
	return v
}

// Parse parses the non-empty values in a record and stores them in v at index i. It returns
// the column of the first invalid value, or -1.
func (p *Program) Parse(v *Values, i int, texts [][]byte) int {
	for col, c := range p.checks {
		text, ok := texts[col], true
		v.Present[col][i] = len(text) > 0
		if len(text) > 0 {
			v.Numbers[col][i], ok = c.parse(text)
		}
		if !ok {
			return col
		}
	}
	return -1
}

// parse parses a value that is not empty. A boolean becomes 0 or 1. It returns false if the value is invalid.
func (c check) parse(text []byte) (n Number, ok bool) {
	ok = true
	if c.number {
		n, ok = ParseNumber(text)
	}
	if ok && c.boolean {
		var value bool
		value, ok = ParseBool(text)
		n = Number{}
		if value {
			n.Lo = 1
		}
	}
	return n, ok
}

// ParseColumn is like Parse for a column of several records: it stores the values
// data[from[k]:to[k]] at the indexes first+k. It returns false if a value is invalid.
func (p *Program) ParseColumn(v *Values, first, col int, data []byte, from, to []uint32) bool {
	check, to := p.checks[col], to[:len(from)]
	numbers, present := v.Numbers[col][first:first+len(from)], v.Present[col][first:first+len(from)]
	isInt := true // the last number was an integer, so the next one probably is
	for i, start := range from {
		end := to[i]
		present[i] = end > start
		if end == start {
			continue
		}
		ok := false
		switch {
		case !check.number || check.boolean:
			numbers[i], ok = check.parse(data[start:end])
		case isInt && end-start <= 8 && int(start)+8 <= len(data):
			unused := 64 - 8*(end-start)
			word := binary.LittleEndian.Uint64(data[start:])<<unused | zeros>>(64-unused)
			numbers[i] = (Number{Lo: combineDigits(word)})
			if areDigits(word) {
				continue
			}
			fallthrough
		default:
			numbers[i], ok = ParseAt(data, start, end)
			isInt = !numbers[i].Float
		}
		if !ok {
			return false
		}
	}
	return true
}

// ParseAt is a faster ParseNumber for data[from:to].
func ParseAt(data []byte, from, to uint32) (Number, bool) {
	if to-from-1 < 8 && int(from)+8 <= len(data) {
		sign, digits, decimals, ok := shortDigits(binary.LittleEndian.Uint64(data[from:]), to-from)
		switch {
		case ok && decimals < 0:
			return Int(digits, sign > 0), true
		case ok: // the quotient is the nearest float, as in ParseNumber
			return Float(math.Float64frombits(math.Float64bits(float64(int64(digits))/exactPowers[decimals]) | sign<<63)), true
		}
	}
	return ParseNumber(data[from:to])
}

const (
	eachByte = 0x0101010101010101
	highBits = 0x80 * eachByte
	points   = '.' * eachByte
	zeros    = '0' * eachByte
)

// shortDigits parses a number of n bytes, 1 to 8: digits with or without a minus sign and a point.
// Its text is in the n lowest bytes of word, in little-endian order. It returns sign = 1 for a
// negative number, the digits as an integer, and the number of digits after the point (-1 if
// there is no point). It returns false for any other text, which ParseNumber may accept.
func shortDigits(word uint64, n uint32) (sign, digits uint64, decimals int, ok bool) {
	if byte(word) == '-' {
		sign = 1
	}
	word, n = word>>(8*sign), n-uint32(sign)
	if n == 0 {
		return 0, 0, 0, false
	}
	word <<= (64 - 8*n) & 63 // move the text to the highest bytes
	decimals = -1
	other := word ^ points
	if pointBits := (other - eachByte) &^ other & highBits; pointBits != 0 {
		shift := bits.TrailingZeros64(pointBits) &^ 7 // position of the point
		decimals = 7 - shift/8
		n--
		// Move the digits before the point to its place.
		word = word>>shift>>8<<8<<shift | word&(1<<shift-1)<<8
	}
	word |= zeros >> (8 * n)
	if n == 0 || !areDigits(word) {
		return 0, 0, 0, false
	}
	return sign, combineDigits(word), decimals, true
}

// areDigits reports whether all bytes are ASCII digits: each high half is 3, also after adding 6.
func areDigits(word uint64) bool {
	const upper = 0xf0 * eachByte
	return word&upper|(word+6*eachByte)&upper>>4 == 0x33*eachByte
}

// combineDigits combines pairs of digits, then pairs of pairs, then both halves.
func combineDigits(word uint64) uint64 {
	word = word & (0x0f * eachByte) * (10<<8 + 1) >> 8
	word = word & 0x00ff00ff00ff00ff * (100<<16 + 1) >> 16
	return word & 0x0000ffff0000ffff * (10000<<32 + 1) >> 32
}

// Add adds the records, starting at index first, to the states of their groups. Several records
// can share a state.
func (p *Program) Add(states [][]uint64, v *Values, first int) {
	for _, s := range p.steps {
		present, numbers := v.Present[s.col][first:first+len(states)], v.Numbers[s.col][first:first+len(states)]
		switch s.kind {
		case stepSum:
			for i, state := range states {
				if present[i] {
					addToSum(state[s.first:], numbers[i])
				}
			}
		case stepPairs:
			other, isPresent := v.Numbers[s.secondCol][first:first+len(states)], v.Present[s.secondCol][first:first+len(states)]
			for i, state := range states {
				if present[i] && isPresent[i] {
					addToPairs(state[s.first:], other[i].Float64(), numbers[i].Float64())
				}
			}
		default:
			for i, state := range states {
				if present[i] {
					s.add(state[s.first:], numbers[i])
				}
			}
		}
	}
}

// add adds a number to the step's words.
func (s *step) add(w []uint64, n Number) {
	switch s.kind {
	case stepCount:
		w[0]++
	case stepMin:
		setExtreme(w, n, -1)
	case stepMax:
		setExtreme(w, n, 1)
	case stepSpread:
		addToSpread(w, n.Float64())
	case stepBooleans:
		if n.Lo != 0 {
			w[0] |= hasTrue
		} else {
			w[0] |= hasFalse
		}
	}
}

// Comparison holds the results of comparing values with a number.
type Comparison struct {
	Less, Equal, Greater byte
	Missing              byte // for an empty value
	Invalid              byte // for a value that is neither empty nor a number
}

// CompareColumn compares the values data[from[i]:to[i]] with x and sets each out[i] to the result in c.
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
