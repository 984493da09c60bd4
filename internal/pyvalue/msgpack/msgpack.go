// Package msgpack reads and writes plain Python values (see package pyvalue) in
// MessagePack, with the same bytes as Python's msgpack (use_bin_type): text as str, bytes
// as bin, and tuples as arrays, which are read as lists.
//
// Values that Python's msgpack cannot write, or could not read back, are rejected with an error
// that wraps ErrNotPlain: sets, integers beyond 64 bits, and dicts with keys that are neither text
// nor bytes. Package pickle supports these values.
package msgpack

import (
	"errors"
	"fmt"
	"math/big"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/go-partd/partd/internal/pyvalue"
)

// ErrNotPlain means that MessagePack cannot represent a value, or that Python could not read it
// back.
var ErrNotPlain = errors.New("MessagePack cannot hold the value")

// maxWriteDepth is the maximum nesting that Python's msgpack writes.
const maxWriteDepth = 511

// Append encodes v and appends it to dst. It accepts plain values and all values that
// pyvalue.Canon converts to them.
func Append(dst []byte, v any) ([]byte, error) {
	out, err := write(dst, v, maxWriteDepth)
	if err != nil {
		return dst, fmt.Errorf("msgpack: %w", err)
	}
	return out, nil
}

func write(dst []byte, v any, depth int) ([]byte, error) {
	if depth < 0 {
		return dst, fmt.Errorf("%w: nested more than %d levels deep", ErrNotPlain, maxWriteDepth)
	}
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(dst), nil
	case bool:
		return msgp.AppendBool(dst, v), nil
	case int64:
		return appendInteger(dst, v), nil
	case int:
		return appendInteger(dst, int64(v)), nil
	case *big.Int:
		switch {
		case v == nil:
			return msgp.AppendNil(dst), nil
		case v.IsInt64():
			return appendInteger(dst, v.Int64()), nil
		case v.IsUint64():
			return msgp.AppendUint64(dst, v.Uint64()), nil
		}
		return dst, fmt.Errorf("%w: an integer beyond 64 bits", ErrNotPlain)
	case float64:
		return msgp.AppendFloat64(dst, v), nil
	case string:
		if !utf8.ValidString(v) {
			return dst, fmt.Errorf("%w: text that is not UTF-8", ErrNotPlain)
		}
		return msgp.AppendString(dst, v), checkLength(len(v))
	case []byte:
		return msgp.AppendBytes(dst, v), checkLength(len(v))
	case pyvalue.ByteArray:
		return msgp.AppendBytes(dst, v), checkLength(len(v))
	case []any:
		return appendArray(dst, v, depth)
	case pyvalue.Tuple:
		return appendArray(dst, v, depth)
	case pyvalue.Dict:
		return appendDict(dst, v, depth)
	case pyvalue.Set, pyvalue.FrozenSet:
		return dst, fmt.Errorf("%w: a %s", ErrNotPlain, pyvalue.Name(v))
	}
	plain, err := pyvalue.Canon(v)
	if err != nil {
		return dst, err
	}
	return write(dst, plain, depth)
}

// appendInteger writes the shortest form. Like Python, it writes non-negative numbers as unsigned.
func appendInteger(dst []byte, n int64) []byte {
	if n >= 0 {
		return msgp.AppendUint64(dst, uint64(n))
	}
	return msgp.AppendInt64(dst, n)
}

func appendArray(dst []byte, elements []any, depth int) ([]byte, error) {
	if err := checkLength(len(elements)); err != nil {
		return dst, err
	}
	dst = msgp.AppendArrayHeader(dst, uint32(len(elements)))
	for _, e := range elements {
		var err error
		dst, err = write(dst, e, depth-1)
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func appendDict(dst []byte, d pyvalue.Dict, depth int) ([]byte, error) {
	if err := checkLength(len(d)); err != nil {
		return dst, err
	}
	dst = msgp.AppendMapHeader(dst, uint32(len(d)))
	for i := range d {
		switch d[i].Key.(type) {
		case string, []byte:
		default:
			return dst, fmt.Errorf("%w: a key that is a %s", ErrNotPlain, pyvalue.Name(d[i].Key))
		}
		var err error
		dst, err = write(dst, d[i].Key, depth-1)
		if err != nil {
			return dst, err
		}
		dst, err = write(dst, d[i].Value, depth-1)
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func checkLength(n int) error {
	if uint64(n) > 1<<32-1 {
		return fmt.Errorf("%w: %d bytes or elements", ErrNotPlain, n)
	}
	return nil
}

// AppendTexts appends an encoded list of strings to dst.
func AppendTexts(dst []byte, texts []string) ([]byte, error) {
	if err := checkLength(len(texts)); err != nil {
		return dst, fmt.Errorf("msgpack: %w", err)
	}
	out := msgp.AppendArrayHeader(dst, uint32(len(texts)))
	for i, s := range texts {
		if !utf8.ValidString(s) {
			return dst, fmt.Errorf("msgpack: element %d, %.40q, is not valid UTF-8, so it cannot become a Python str",
				i, s)
		}
		if err := checkLength(len(s)); err != nil {
			return dst, fmt.Errorf("msgpack: element %d: %w", i, err)
		}
		out = msgp.AppendString(out, s)
	}
	return out, nil
}
