package pickle

import (
	"math/big"
	"testing"

	"github.com/go-partd/partd/internal/pyvalue"
)

// FuzzDecode looks for a pickle that makes Decode panic or use more memory than MaxGrowth allows, or
// that decodes to a value which changes when it is encoded and decoded again.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{
		nil,
		[]any{true, -1, 1 << 40, 1.5, "text", []byte("bytes")},
		pyvalue.Dict{{Key: pyvalue.Tuple{1, 2, 3, 4}, Value: pyvalue.Set{"x", nil}}},
		pyvalue.FrozenSet{pyvalue.ByteArray(nil)},
		new(big.Int).Lsh(big.NewInt(-1), 100),
	} {
		if b, err := Append(nil, v); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte("\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00](\x8c\x08builtins\x94\x8c\x09bytearray\x94\x93\x94C\x01a\x85Re."))
	f.Add(doublingPickle(30))
	f.Fuzz(func(t *testing.T, data []byte) {
		bytes, v, err := decodeMeasured(data)
		if bytes > MaxGrowth*uint64(len(data))+1<<20 {
			t.Fatalf("Decode allocated %d bytes for a pickle of %d bytes", bytes, len(data))
		}
		budget := 10_000
		if err != nil || !isSmall(v, &budget) {
			return
		}
		reencoded, err := Append(nil, v)
		if err != nil {
			t.Fatalf("Append of the decoded value %#v: %v", v, err)
		}
		w, err := Decode(reencoded)
		if err != nil {
			t.Fatalf("Decode of the reencoded pickle %q: %v", reencoded, err)
		}
		if describe(v) != describe(w) {
			t.Fatalf("the value changed:\n got %s\nwant %s", describe(w), describe(v))
		}
	})
}

// isSmall reports whether the size of a value is at most *budget, and subtracts the size from
// *budget. Shared elements count once for each reference.
func isSmall(v any, budget *int) bool {
	each := func(elements []any) bool {
		for _, e := range elements {
			if !isSmall(e, budget) {
				return false
			}
		}
		return true
	}
	if *budget--; *budget < 0 {
		return false
	}
	switch v := v.(type) {
	case string:
		*budget -= len(v)
	case []byte:
		*budget -= len(v)
	case *big.Int:
		*budget -= v.BitLen()
	case []any:
		return each(v)
	case pyvalue.Tuple:
		return each(v)
	case pyvalue.Set:
		return each(v)
	case pyvalue.FrozenSet:
		return each(v)
	case pyvalue.Dict:
		for _, item := range v {
			if !isSmall(item.Key, budget) || !isSmall(item.Value, budget) {
				return false
			}
		}
	}
	return *budget >= 0
}
