package aggregate

import (
	"bytes"
	"strconv"
)

// ParseBool reads true and false as PostgreSQL spells them, in any case, between
// spaces where there are any.
func ParseBool(text []byte) (value, ok bool) {
	var lower [5]byte
	if text = bytes.Trim(text, " "); len(text) > len(lower) {
		return false, false
	}
	for i, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(text)]) {
	case "true", "t", "yes", "y", "on", "1":
		return true, true
	case "false", "f", "no", "n", "off", "0":
		return false, true
	}
	return false, false
}

// Truth values are the bits of those that there are.
const (
	hasTrue = 1 << iota
	hasFalse
)

func addToBools(s []uint64, value bool) {
	if value {
		s[0] |= hasTrue
	} else {
		s[0] |= hasFalse
	}
}

// appendBools appends what all values are, or whether one is true; nothing of none.
func appendBools(dst []byte, f Func, s []uint64) []byte {
	if s[0] == 0 {
		return dst
	}
	return strconv.AppendBool(dst, s[0] == hasTrue || f == BoolOr && s[0]&hasTrue != 0)
}
