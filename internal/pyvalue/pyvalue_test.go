package pyvalue

import (
	"math"
	"math/big"
	"testing"
)

// TestKey checks that the values of a group are the same key in Python; different groups are different keys.
func TestKey(t *testing.T) {
	groups := [][]any{
		{nil},
		{int64(0), false, 0.0, math.Copysign(0, -1), new(big.Int), uint8(0)},
		{int64(1), true, 1.0, int32(1)},
		{0.5, float32(0.5)},
		{"x"},
		{[]byte("x")},
		{"i\x00"},
		{math.Ldexp(1, 70), new(big.Int).Lsh(big.NewInt(1), 70)},
		{-math.Ldexp(1, 70), new(big.Int).Lsh(big.NewInt(-1), 70)},
		{math.Inf(1)},
		{Tuple{}},
		{FrozenSet{}},
		{Tuple{int64(1), "x"}, Tuple{true, "x"}, Tuple{1.0, "x"}},
		{Tuple{"x", int64(1)}},
		{Tuple{Tuple{int64(1)}, "x"}},
		{Tuple{int64(1), Tuple{"x"}}},
		{Tuple{math.Ldexp(1, 70)}, Tuple{new(big.Int).Lsh(big.NewInt(1), 70)}},
		{FrozenSet{"x", []byte("x"), nil}, FrozenSet{nil, "x", []byte("x")}},
		{FrozenSet{"x", nil}},
		{Tuple{"ab", "c"}},
		{Tuple{"a", "bc"}},
	}
	seen := map[any]int{}
	for i, group := range groups {
		for _, v := range group {
			key, err := Key(v)
			if err != nil {
				t.Fatalf("Key(%#v): %v", v, err)
			}
			if otherGroup, ok := seen[key]; ok && otherGroup != i {
				t.Errorf("Key returns the same key for %#v and %#v", v, groups[otherGroup])
			}
			seen[key] = i
		}
	}
	if len(seen) != len(groups) {
		t.Errorf("Key returns %d keys for %d groups of equal values", len(seen), len(groups))
	}
	for _, v := range []any{[]any{}, Dict{}, Set{}, ByteArray{}, Tuple{[]any{}}, FrozenSet{Set{}}, struct{}{}} {
		if key, err := Key(v); err == nil {
			t.Errorf("Key(%#v) = %v, want an error", v, key)
		}
	}
}

func TestDictGet(t *testing.T) {
	d := Dict{{"a", 1}, {int64(2), "two"}, {Tuple{"x"}, "tuple"}, {"a", "last"}}
	for _, c := range []struct{ key, want any }{{"a", "last"}, {2, "two"}, {2.0, "two"}, {Tuple{"x"}, "tuple"}} {
		if got, ok := d.Get(c.key); !ok || got != c.want {
			t.Errorf("Get(%v) = %v, %v, want %v", c.key, got, ok, c.want)
		}
	}
	for _, key := range []any{"b", 3, nil, []any{}} {
		if got, ok := d.Get(key); ok {
			t.Errorf("Get(%v) = %v, want no value", key, got)
		}
	}
}

func TestValidText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "aé€😀": true, "\xed\xa0\x80": true, "a\xed\xbf\xbfb\xed\xa0\x80": true,
		"\xff": false, "\xed\xa0": false, "\xed": false, "a\xed\x9f": false, "\xed\xa0\xc0": false, "\xed\xa0\x80\xff": false,
	} {
		if got := ValidText(text); got != want {
			t.Errorf("ValidText(%q) = %v, want %v", text, got, want)
		}
	}
}
