package cli

import "bytes"

// appendKey appends the key of several fields, which sorts as they do one after
// the other: a NUL in a field is followed by 255, and a field ends in NUL and 1.
func appendKey(dst []byte, fields [][]byte) []byte {
	for _, f := range fields {
		for {
			nul := bytes.IndexByte(f, 0)
			if nul < 0 {
				break
			}
			dst = append(append(dst, f[:nul+1]...), 255)
			f = f[nul+1:]
		}
		dst = append(append(dst, f...), 0, 1)
	}
	return dst
}

// splitKey returns the fields of a key that appendKey made.
func splitKey(fields [][]byte, key []byte) [][]byte {
	for len(key) > 0 {
		var f []byte
		for {
			nul := bytes.IndexByte(key, 0)
			end := key[nul+1] == 1
			if end {
				f = append(f, key[:nul]...)
			} else {
				f = append(f, key[:nul+1]...)
			}
			key = key[nul+2:]
			if end {
				break
			}
		}
		fields = append(fields, f)
	}
	return fields
}
