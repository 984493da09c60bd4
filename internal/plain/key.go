package plain

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
)

// Kinds of keys that are not themselves: each is a type of its own, so that the
// text "x" and the bytes "x" are two keys.
type (
	bytesKey    string
	bigKey      string
	compoundKey string
)

// Key returns a comparable value that is the same for two values where Python
// holds them for the same key of a dict. A value that Python cannot hash, such
// as a list, is an error.
func Key(v any) (any, error) {
	switch v := v.(type) {
	case nil, string, int64:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case float64:
		return floatKey(v), nil
	case *big.Int:
		return intKey(v), nil
	case []byte:
		return bytesKey(v), nil
	case Tuple, FrozenSet:
		b, err := appendKey(nil, v)
		return compoundKey(b), err
	case []any, Dict, Set, ByteArray:
		return nil, fmt.Errorf("a %s cannot be a key or an element of a set", Name(v))
	}
	c, err := Canon(v)
	if err != nil {
		return nil, err
	}
	return Key(c)
}

func intKey(v *big.Int) any {
	if v.IsInt64() {
		return v.Int64()
	}
	sign := byte(v.Sign() + 1)
	return bigKey(append([]byte{sign}, v.Bytes()...))
}

// floatKey returns the key of an integer where a number is one.
func floatKey(f float64) any {
	if f != math.Trunc(f) || math.IsInf(f, 0) {
		return f
	}
	if f >= math.MinInt64 && f < math.MaxInt64 {
		return int64(f)
	}
	n, _ := big.NewFloat(f).Int(nil)
	return intKey(n)
}

// appendKey appends a text that is the same for the same key, and no beginning
// of another's.
func appendKey(dst []byte, v any) ([]byte, error) {
	var elements []any
	switch v := v.(type) {
	case Tuple:
		dst, elements = append(dst, 't'), v
	case FrozenSet:
		return appendSetKey(dst, v)
	default:
		key, err := Key(v)
		if err != nil {
			return nil, err
		}
		switch key := key.(type) {
		case nil:
			return append(dst, 'n'), nil
		case string:
			return appendText(dst, 's', key), nil
		case bytesKey:
			return appendText(dst, 'b', string(key)), nil
		case bigKey:
			return appendText(dst, 'l', string(key)), nil
		case int64:
			return binary.BigEndian.AppendUint64(append(dst, 'i'), uint64(key)), nil
		case float64:
			return binary.BigEndian.AppendUint64(append(dst, 'f'), math.Float64bits(key)), nil
		}
		return nil, fmt.Errorf("no key of a %T", key)
	}
	dst = binary.AppendUvarint(dst, uint64(len(elements)))
	for _, e := range elements {
		var err error
		if dst, err = appendKey(dst, e); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendSetKey sorts: the elements of a set have no order.
func appendSetKey(dst []byte, set FrozenSet) ([]byte, error) {
	texts := make([]string, len(set))
	for i, e := range set {
		text, err := appendKey(nil, e)
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	slices.Sort(texts)
	return appendText(dst, 'z', strings.Join(texts, "")), nil
}

func appendText(dst []byte, kind byte, s string) []byte {
	return append(binary.AppendUvarint(append(dst, kind), uint64(len(s))), s...)
}
