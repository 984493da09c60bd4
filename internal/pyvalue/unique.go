package pyvalue

import (
	"errors"
	"math/big"
)

// ErrTooMuchWork is the error for keys that are too long or too many to compare. Even a short input
// can have such keys, because it can refer to the same long key many times.
var ErrTooMuchWork = errors.New("comparing the keys of dicts and sets takes too much work for the length of the input")

// Unique removes repeated keys from dicts and repeated elements from sets.
type Unique struct {
	Work int64 // number of key bytes that may still be compared or hashed
	keys keyer
}

// NewUnique returns a Unique for a value that was read from n bytes. Its Work is a large multiple
// of n, because an input may refer to the same key several times.
func NewUnique(n int) *Unique { return &Unique{Work: 1<<26 + 1<<8*int64(n)} }

// maxPairwise is the maximum number of keys that are compared pairwise. For so few keys, this is
// faster than a map.
const maxPairwise = 8

// Dict removes repeated keys, in place: each key stays at its first position, with its
// last value.
func (u *Unique) Dict(items []Item) (Dict, error) {
	keyOf := func(i int) any { return items[i].Key }
	return deduplicate(u, items, keyOf, func(first *Item, repeated Item) { first.Value = repeated.Value })
}

// Set removes repeated elements, in place.
func (u *Unique) Set(elements []any) ([]any, error) {
	keyOf := func(i int) any { return elements[i] }
	return deduplicate(u, elements, keyOf, func(*any, any) {}) // keep the first of equal elements unchanged
}

// deduplicate removes items with repeated keys, in place. keyOf returns the key of items[i]. For each
// repeated item, merge updates the first item with its key.
func deduplicate[T any](u *Unique, items []T, keyOf func(i int) any, merge func(first *T, repeated T)) ([]T, error) {
	if distinct, err := u.areSimple(len(items), keyOf); distinct || err != nil {
		return items, err
	}
	index := make(map[any]int, len(items))
	out := items[:0]
	for i, item := range items {
		key, err := u.key(keyOf(i))
		if err != nil {
			return nil, err
		}
		if first, exists := index[key]; exists {
			merge(&out[first], item)
			continue
		}
		index[key] = len(out)
		out = append(out, item)
	}
	return out, nil
}

// areSimple reports whether there are few keys, all distinct and all strings or integers.
// This common case needs no map.
func (u *Unique) areSimple(n int, key func(int) any) (bool, error) {
	if n > maxPairwise {
		return false, nil
	}
	if n == 1 {
		if _, ok := key(0).(string); ok {
			return true, nil
		}
		return true, u.charge(key(0))
	}
	for i := range n {
		k := key(i)
		switch k := k.(type) {
		case int64:
		case string:
			if err := u.spend(len(k)); err != nil {
				return false, err
			}
		default:
			return false, nil
		}
		for j := range i {
			if key(j) == k {
				return false, nil
			}
		}
	}
	return true, nil
}

func (u *Unique) key(v any) (any, error) {
	if err := u.charge(v); err != nil {
		return nil, err
	}
	return u.keys.key(v)
}

// charge subtracts the cost of a key from u.Work, before the key is hashed. A value that cannot be
// a key is an error.
func (u *Unique) charge(v any) error {
	switch v := v.(type) {
	case string:
		return u.spend(len(v))
	case []byte:
		return u.spend(hashCost * len(v))
	case *big.Int:
		return u.spend(hashCost * v.BitLen() / 8)
	case Tuple:
		return u.chargeAll(v)
	case FrozenSet:
		return u.chargeAll(v)
	case []any, Dict, Set, ByteArray:
		return unhashableError(v)
	}
	return u.spend(8)
}

// hashCost is the cost of hashing a byte, as a multiple of the cost of comparing a byte.
const hashCost = 8

func (u *Unique) chargeAll(elements []any) error {
	if err := u.spend(8); err != nil {
		return err
	}
	for _, e := range elements {
		if s, ok := e.(string); ok {
			if err := u.spend(hashCost * len(s)); err != nil {
				return err
			}
			continue
		}
		if err := u.charge(e); err != nil {
			return err
		}
	}
	return nil
}

func (u *Unique) spend(n int) error {
	u.Work -= int64(n)
	if u.Work < 0 {
		return ErrTooMuchWork
	}
	return nil
}

// Texts converts bytes to strings and reuses short strings that occur repeatedly, such
// as the keys of many dicts.
type Texts struct {
	cache *[64]any
}

// NewTexts returns a Texts for a value that is read from n bytes.
func NewTexts(n int) Texts {
	if n < 1<<10 {
		return Texts{} // such a short input gains nothing from a cache
	}
	return Texts{new([64]any)}
}

// Of returns b as a string, in an interface so that a cached string needs no allocation. isNew
// reports whether the string did not come from the cache.
func (t Texts) Of(b []byte) (text any, isNew bool) {
	if t.cache == nil || len(b) == 0 || len(b) > 32 {
		return string(b), true
	}
	slot := &t.cache[(uint(len(b))*31+uint(b[0])*7+uint(b[len(b)/2])*5+uint(b[len(b)-1]))%64]
	if s, ok := (*slot).(string); ok && s == string(b) {
		return *slot, false
	}
	text = string(b)
	*slot = text
	return text, true
}
