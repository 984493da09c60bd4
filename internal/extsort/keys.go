package extsort

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The functions below encode values so that bytes.Compare orders the encodings
// as the values. No encoding of one function is the beginning of another one of
// the same function: so those of several values, one after the other, order by
// the first value, then the second. The exception is plain bytes, which order by
// themselves, but only as the last, and not inverted.

// AppendUint encodes an unsigned integer in 8 bytes.
func AppendUint(dst []byte, x uint64) []byte { return binary.BigEndian.AppendUint64(dst, x) }

// AppendFloat encodes a floating-point number in 8 bytes. -0 is 0, and NaN comes
// before all others, as in cmp.Compare.
func AppendFloat(dst []byte, x float64) []byte {
	switch {
	case math.IsNaN(x):
		return AppendUint(dst, 0)
	case x == 0:
		x = 0 // also for -0
	}
	b := math.Float64bits(x)
	if b>>63 == 1 {
		return AppendUint(dst, ^b)
	}
	return AppendUint(dst, b|1<<63)
}

// AppendText encodes bytes of any length: zeros are followed by 255, and two
// zeros end it.
func AppendText[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := range len(s) {
		if s[i] == 0 {
			return appendZeros(dst, s)
		}
	}
	dst = append(dst, s...)
	return append(dst, 0, 0)
}

func appendZeros[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := range len(s) {
		dst = append(dst, s[i])
		if s[i] == 0 {
			dst = append(dst, 255)
		}
	}
	return append(dst, 0, 0)
}

// Invert turns the order of an encoding round. It changes the bytes given: those
// that an Append function added.
func Invert(encoded []byte) {
	for len(encoded) >= 8 {
		binary.LittleEndian.PutUint64(encoded, ^binary.LittleEndian.Uint64(encoded))
		encoded = encoded[8:]
	}
	for i := range encoded {
		encoded[i] = ^encoded[i]
	}
}

// TextLen returns how long the encoding is that AppendText made at the beginning of a
// key.
func TextLen(key []byte) int {
	at := 0
	for {
		at += bytes.IndexByte(key[at:], 0) + 2
		if key[at-1] == 0 {
			return at
		}
	}
}
