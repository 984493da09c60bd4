// Package pyvalue represents plain Python values as Go values:
//
//	None                 nil
//	bool                 bool
//	int                  int64, or *big.Int if int64 is too small
//	float                float64
//	str                  string, in UTF-8
//	bytes, bytearray     []byte, ByteArray
//	list, tuple          []any, Tuple
//	dict                 Dict
//	set, frozenset       Set, FrozenSet
//
// Decoders return only these types. Encoders accept more: see Canon.
package pyvalue

import (
	"cmp"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"unicode/utf8"
)

// Tuple is a Python tuple.
type Tuple []any

// Set is Python's set. No two of its elements are equal, and their order has no meaning.
type Set []any

// FrozenSet is Python's frozenset. It can be a key of a dict or an element of a set.
type FrozenSet []any

// ByteArray is Python's bytearray.
type ByteArray []byte

// Item is a key of a Dict with its value.
type Item struct{ Key, Value any }

// Dict is Python's dict, in the insertion order of its keys. A Go map would lose that
// order and cannot have tuples or bytes as keys.
type Dict []Item

// Get returns the value of a key and reports whether the key exists. It compares keys
// as Python does: 1, 1.0 and true are the same key.
func (d Dict) Get(key any) (value any, ok bool) {
	wantedKey, err := Key(key)
	if err != nil {
		return nil, false
	}
	for i := len(d) - 1; i >= 0; i-- {
		if s, isString := d[i].Key.(string); isString {
			if s == wantedKey {
				return d[i].Value, true
			}
			continue
		}
		if k, err := Key(d[i].Key); err == nil && k == wantedKey {
			return d[i].Value, true
		}
	}
	return nil, false
}

// MaxDepth is the maximum nesting depth of lists, tuples, dicts and sets when reading and writing.
// Python's own pickle and msgpack have about the same limit.
const MaxDepth = 1000

// Canon converts a Go value to one of the types in the package comment (a plain value). It accepts
// numbers of every size, types derived from plain types, slices and arrays (as lists), and maps
// with string or integer keys (as dicts, sorted by key). Other types, such as structs, are an
// error.
func Canon(v any) (any, error) {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Invalid:
		return nil, nil
	case reflect.Bool:
		return r.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return Unsigned(r.Uint()), nil
	case reflect.Float32, reflect.Float64:
		return r.Float(), nil
	case reflect.String:
		return r.String(), nil
	case reflect.Interface, reflect.Pointer:
		if r.IsNil() {
			return nil, nil
		}
	case reflect.Slice, reflect.Array:
		if r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Uint8 {
			return r.Bytes(), nil
		}
		list := make([]any, r.Len())
		for i := range list {
			list[i] = r.Index(i).Interface()
		}
		return list, nil
	case reflect.Map:
		if k := r.Type().Key().Kind(); k == reflect.String || k >= reflect.Int && k <= reflect.Uint64 {
			return sortedItems(r), nil
		}
	}
	return nil, fmt.Errorf("a Go value of type %T cannot be converted to a plain Python value", v)
}

// sortedItems returns the items of a map, sorted by key. The keys must be strings or integers.
func sortedItems(m reflect.Value) Dict {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch {
		case a.Kind() == reflect.String:
			return cmp.Compare(a.String(), b.String())
		case a.CanInt():
			return cmp.Compare(a.Int(), b.Int())
		}
		return cmp.Compare(a.Uint(), b.Uint())
	})
	dict := make(Dict, len(keys))
	for i, k := range keys {
		dict[i] = Item{k.Interface(), m.MapIndex(k).Interface()}
	}
	return dict
}

// Unsigned returns n as an int64, or as a *big.Int if int64 is too small.
func Unsigned(n uint64) any {
	if n>>63 == 0 {
		return int64(n)
	}
	return new(big.Int).SetUint64(n)
}

// Integer returns n as an int64 if it fits, and otherwise n itself.
func Integer(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// Name returns Python's name for the type of a plain value.
func Name(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case ByteArray:
		return "bytearray"
	case []any:
		return "list"
	case Tuple:
		return "tuple"
	case Dict:
		return "dict"
	case Set:
		return "set"
	case FrozenSet:
		return "frozenset"
	}
	return fmt.Sprintf("%T", v)
}

// ValidText reports whether t can be a Python str: UTF-8 that may also contain single
// surrogates of three bytes each.
func ValidText(t string) bool {
	for !utf8.ValidString(t) {
		i := 0
		for i < len(t) {
			r, n := utf8.DecodeRuneInString(t[i:])
			if r == utf8.RuneError && n <= 1 {
				break
			}
			i += n
		}
		if len(t) < i+3 || t[i] != 0xed || t[i+1]&0xe0 != 0xa0 || t[i+2]&0xc0 != 0x80 {
			return false
		}
		t = t[i+3:]
	}
	return true
}
