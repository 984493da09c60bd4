package pyvalue

import (
	"errors"
	"math/big"
)

// ErrTooMuchWork is the error for keys that are too long or too many to compare,
// as they are where a short text stands for many large keys.
var ErrTooMuchWork = errors.New("the keys of dicts and sets take too much work to compare for the length of the input")

// Unique drops keys that came before. Work bounds it: the length of the keys
// that it may still look at, in bytes.
type Unique struct {
	Work int64
	keys keyer
}

// NewUnique returns a Unique for a value that was read from n bytes. Keys that
// are texts of their own are no longer than the bytes; those that one text
// stands for may be.
func NewUnique(n int) *Unique { return &Unique{Work: 1<<26 + 1<<8*int64(n)} }

// few is how many keys are compared each with each, which takes less time than
// a map.
const few = 8

// Dict returns items with each key once: where it first was, with its last
// value. It works in place.
func (u *Unique) Dict(items []Item) (Dict, error) {
	if distinct, err := u.simple(len(items), func(i int) any { return items[i].Key }); distinct || err != nil {
		return items, err
	}
	at := make(map[any]int, len(items))
	out := items[:0]
	for _, item := range items {
		key, err := u.key(item.Key)
		if err != nil {
			return nil, err
		}
		if i, have := at[key]; have {
			out[i].Value = item.Value
			continue
		}
		at[key] = len(out)
		out = append(out, item)
	}
	return out, nil
}

// Set returns elements with each once. It works in place.
func (u *Unique) Set(elements []any) ([]any, error) {
	if distinct, err := u.simple(len(elements), func(i int) any { return elements[i] }); distinct || err != nil {
		return elements, err
	}
	have := make(map[any]struct{}, len(elements))
	out := elements[:0]
	for _, e := range elements {
		key, err := u.key(e)
		if err != nil {
			return nil, err
		}
		if _, ok := have[key]; !ok {
			have[key] = struct{}{}
			out = append(out, e)
		}
	}
	return out, nil
}

// simple reports whether keys are few, all texts or integers, and all different: the
// usual case, for which there is no need of a map.
func (u *Unique) simple(n int, key func(int) any) (bool, error) {
	if n > few {
		return false, nil
	}
	if n == 1 {
		if _, ok := key(0).(string); ok {
			return true, nil
		}
		return true, u.measure(key(0))
	}
	for i := range n {
		k := key(i)
		switch k := k.(type) {
		case int64:
		case string:
			if err := u.work(len(k)); err != nil {
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
	if err := u.measure(v); err != nil {
		return nil, err
	}
	return u.keys.key(v)
}

// measure takes the length of a key from the work that is left, before any of it
// is done. What cannot be a key is an error.
func (u *Unique) measure(v any) error {
	switch v := v.(type) {
	case string:
		return u.work(len(v))
	case []byte:
		return u.work(hashing * len(v))
	case *big.Int:
		return u.work(hashing * v.BitLen() / 8)
	case Tuple:
		return u.measureAll(v)
	case FrozenSet:
		return u.measureAll(v)
	case []any, Dict, Set, ByteArray:
		return unhashable(v)
	}
	return u.work(8)
}

// hashing is how much more work it is to hash a byte than to compare it.
const hashing = 8

func (u *Unique) measureAll(elements []any) error {
	if err := u.work(8); err != nil {
		return err
	}
	for _, e := range elements {
		if s, ok := e.(string); ok {
			if err := u.work(hashing * len(s)); err != nil {
				return err
			}
			continue
		}
		if err := u.measure(e); err != nil {
			return err
		}
	}
	return nil
}

func (u *Unique) work(n int) error {
	if u.Work -= int64(n); u.Work < 0 {
		return ErrTooMuchWork
	}
	return nil
}

// Texts makes strings of bytes. Short ones that come again and again, as the
// keys of many dicts do, are made once.
type Texts struct {
	few *[64]any
}

// NewTexts returns a Texts for a value that is read from n bytes.
func NewTexts(n int) Texts {
	if n < 1<<10 {
		return Texts{} // not worth the table
	}
	return Texts{new([64]any)}
}

// Of returns a string, as an interface, which would otherwise cost a second
// allocation. isNew reports whether it was not returned before.
func (t Texts) Of(b []byte) (text any, isNew bool) {
	if t.few == nil || len(b) == 0 || len(b) > 32 {
		return string(b), true
	}
	slot := &t.few[(uint(len(b))*31+uint(b[0])*7+uint(b[len(b)/2])*5+uint(b[len(b)-1]))%64]
	if s, ok := (*slot).(string); ok && s == string(b) {
		return *slot, false
	}
	text = string(b)
	*slot = text
	return text, true
}
