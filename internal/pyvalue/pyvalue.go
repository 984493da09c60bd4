// Package pyvalue holds the plain values of Python as values of Go:
//
//	None                 nil
//	bool                 bool
//	int                  int64, or *big.Int where int64 is too small
//	float                float64
//	str                  string, in UTF-8
//	bytes, bytearray     []byte, ByteArray
//	list, tuple          []any, Tuple
//	dict                 Dict
//	set, frozenset       Set, FrozenSet
//
// Decoders return these and no others. Encoders take more: see Canon.
package pyvalue

// Tuple is Python's tuple.
type Tuple []any

// Set is Python's set. No two of its elements are equal; their order means nothing.
type Set []any

// FrozenSet is Python's frozenset: a set that can be a key or an element of a set.
type FrozenSet []any

// ByteArray is Python's bytearray.
type ByteArray []byte

// Item is a key of a Dict with its value.
type Item struct{ Key, Value any }

// Dict is Python's dict, which keeps the order in which keys were added. A map
// would lose that order, and cannot have a tuple or bytes for a key.
type Dict []Item

// Get returns the value of a key, and whether there is one. Keys are compared
// as Python does: 1, 1.0 and true are the same key.
func (d Dict) Get(key any) (value any, ok bool) {
	want, err := Key(key)
	if err != nil {
		return nil, false
	}
	for i := len(d) - 1; i >= 0; i-- {
		if s, isString := d[i].Key.(string); isString {
			if s == want {
				return d[i].Value, true
			}
			continue
		}
		if k, err := Key(d[i].Key); err == nil && k == want {
			return d[i].Value, true
		}
	}
	return nil, false
}
