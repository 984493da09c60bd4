package shuffle

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/go-partd/partd/internal/extsort"
)

// Key is one of the keys that records are sorted by, made by [Asc], [Desc],
// [AscBytes] or [DescBytes].
type Key[T any] struct {
	// appendTo appends what orders as the key. last tells that no more follows.
	appendTo func(dst []byte, v T, last bool) []byte
}

// By returns a list of keys: the first key decides, the next one breaks ties, and so
// on.
func By[T any](keys ...Key[T]) []Key[T] { return keys }

// Asc is a key in ascending order. Floats are ordered as by [cmp.Compare]: NaN
// first.
func Asc[T any, K cmp.Ordered](key func(T) K) Key[T] {
	if key == nil {
		return Key[T]{}
	}
	t := reflect.TypeFor[K]()
	switch t.Kind() {
	case reflect.String:
		if key, ok := any(key).(func(T) string); ok {
			return textKey(key)
		}
		return textKey(func(v T) string { k := key(v); return *(*string)(unsafe.Pointer(&k)) })
	case reflect.Float64:
		return newKey(key, func(dst []byte, k K) []byte { return extsort.AppendFloat(dst, *(*float64)(unsafe.Pointer(&k))) })
	case reflect.Float32:
		return newKey(key, func(dst []byte, k K) []byte {
			return extsort.AppendFloat(dst, float64(*(*float32)(unsafe.Pointer(&k))))
		})
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return newKey(key, intEncoder[K](t.Size(), true))
	default: // cmp.Ordered has no more than these
		return newKey(key, intEncoder[K](t.Size(), false))
	}
}

// Desc is a key in descending order.
func Desc[T any, K cmp.Ordered](key func(T) K) Key[T] { return inverted(Asc(key)) }

// AscBytes is a key of bytes in ascending order.
func AscBytes[T any](key func(T) []byte) Key[T] { return textKey(key) }

// DescBytes is a key of bytes in descending order.
func DescBytes[T any](key func(T) []byte) Key[T] { return inverted(AscBytes(key)) }

func newKey[T, K any](key func(T) K, encode func(dst []byte, k K) []byte) Key[T] {
	return Key[T]{func(dst []byte, v T, _ bool) []byte { return encode(dst, key(v)) }}
}

func textKey[T any, S ~string | ~[]byte](key func(T) S) Key[T] {
	if key == nil {
		return Key[T]{}
	}
	return Key[T]{func(dst []byte, v T, last bool) []byte {
		if last {
			return append(dst, key(v)...)
		}
		return extsort.AppendText(dst, key(v))
	}}
}

func inverted[T any](k Key[T]) Key[T] {
	if k.appendTo == nil {
		return k
	}
	return Key[T]{func(dst []byte, v T, _ bool) []byte {
		start := len(dst)
		dst = k.appendTo(dst, v, false)
		extsort.Invert(dst[start:])
		return dst
	}}
}

// intEncoder is for integers of a size in bytes.
func intEncoder[K any](size uintptr, signed bool) func(dst []byte, k K) []byte {
	var flip uint64 // the sign, as the highest bit
	if signed {
		flip = 1 << 63
	}
	shift := 64 - 8*size
	return func(dst []byte, k K) []byte {
		var x uint64
		switch p := unsafe.Pointer(&k); size {
		case 8:
			return extsort.AppendUint(dst, *(*uint64)(p)^flip)
		case 4:
			x = uint64(*(*uint32)(p))
		case 2:
			x = uint64(*(*uint16)(p))
		default:
			x = uint64(*(*uint8)(p))
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], x<<shift^flip)
		return append(dst, b[:size]...)
	}
}

// appendKeys appends what orders as all keys of a record.
func appendKeys[T any](dst []byte, by []Key[T], v T) []byte {
	for i := range by {
		dst = by[i].appendTo(dst, v, i == len(by)-1)
	}
	return dst
}

func checkKeys[T any](by []Key[T]) error {
	if len(by) == 0 {
		return fmt.Errorf("sorting by no key: give one at least, such as shuffle.By(shuffle.Asc(…))")
	}
	for i := range by {
		if by[i].appendTo == nil {
			return fmt.Errorf("key %d to sort by is empty: make it by Asc or Desc, of a function", i+1)
		}
	}
	return nil
}
