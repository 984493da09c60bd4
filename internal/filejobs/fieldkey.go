package filejobs

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/output"
)

// What ends a field of a key, after a NUL. Where types do not matter, all are text.
const (
	endMissing = iota + 1
	endText
	endBare // a number, true or false of JSON
)

// appendKey appends the key of several fields, which sorts as they do one after
// the other: a NUL in a field is followed by 255, and a field ends in NUL and one
// of the ends. Bare tells which are no strings in JSON; nil is that types do not
// matter.
func appendKey(dst []byte, fields [][]byte, bare []bool) []byte {
	if bare == nil {
		if key, ok := appendWords(dst, fields); ok {
			return key
		}
	}
	for i, f := range fields {
		end := byte(endText)
		switch {
		case bare == nil:
		case f == nil:
			end = endMissing
		case bare[i]:
			end = endBare
		}
		for {
			nul := bytes.IndexByte(f, 0)
			if nul < 0 {
				break
			}
			dst = append(append(dst, f[:nul+1]...), 255)
			f = f[nul+1:]
		}
		dst = append(append(dst, f...), 0, end)
	}
	return dst
}

// appendWords appends the key of fields without a NUL, a word at a time. It reads what
// follows a field in its block, and returns false where nothing does.
func appendWords(dst []byte, fields [][]byte) ([]byte, bool) {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	n, grown := len(dst), len(dst)
	for _, f := range fields {
		grown += len(f) + 2 + 8
	}
	dst = slices.Grow(dst, grown-n)
	to := dst[:cap(dst)]
	for _, f := range fields {
		for {
			if cap(f) < 8 {
				return dst, false
			}
			w, size := binary.LittleEndian.Uint64(f[:8]), min(len(f), 8)
			outside := ^uint64(0) << (8 * size)
			if w |= outside; (w-ones)&^w&high != 0 {
				return dst, false
			}
			binary.LittleEndian.PutUint64(to[n:], w&^outside)
			n += size
			if f = f[size:]; len(f) == 0 {
				break
			}
		}
		to[n], to[n+1] = 0, endText
		n += 2
	}
	return to[:n], true
}

// splitKey appends the fields of a key that appendKey made. They are in the key, but for
// those that hold a NUL.
func splitKey(fields []output.Value, key []byte) []output.Value {
	for len(key) > 0 {
		nul := bytes.IndexByte(key, 0)
		f, end := key[:nul], key[nul+1]
		key = key[nul+2:]
		for end == 255 {
			nul = bytes.IndexByte(key, 0)
			f = append(append(f[:len(f):len(f)], 0), key[:nul]...)
			end, key = key[nul+1], key[nul+2:]
		}
		fields = append(fields, output.Value{Text: f, Missing: end == endMissing, JSON: end == endBare})
	}
	return fields
}

// appendPlainKey appends the fields of a key, or a key that is one field, with separators
// between them. It returns false if one of them cannot stand as it is.
func appendPlainKey(dst, key []byte, oneField bool, plain *output.Plain) ([]byte, bool) {
	if oneField {
		return append(dst, key...), plain.Holds(key)
	}
	from := len(dst)
	dst = append(dst, key[:len(key)-2]...) // without the last end
	for to, i := from, 0; i < len(key); i++ {
		c := key[i]
		if plain.Special[c] {
			return dst, false
		}
		if c == 0 {
			i++
			if key[i] == 255 {
				return dst, false
			}
			if i+1 == len(key) {
				return dst[:to], true
			}
			c = plain.Sep
		}
		dst[to] = c
		to++
	}
	return dst, false
}
