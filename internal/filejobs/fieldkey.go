package filejobs

import (
	"bytes"

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

// splitKey appends the fields of a key that appendKey made.
func splitKey(fields []output.Value, key []byte) []output.Value {
	for len(key) > 0 {
		var f []byte
		for {
			nul := bytes.IndexByte(key, 0)
			text, end := key[:nul], key[nul+1]
			if end == 255 {
				text = key[:nul+1]
			}
			f, key = append(f, text...), key[nul+2:]
			if end != 255 {
				fields = append(fields, output.Value{Text: f, Missing: end == endMissing, JSON: end == endBare})
				break
			}
		}
	}
	return fields
}
