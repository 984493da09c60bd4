package pickle

import (
	"math/big"
	"testing"

	"github.com/go-partd/partd/internal/pyvalue"
)

// FuzzDecode looks for a pickle that crashes, takes more memory than MaxGrowth allows, or
// decodes to a value that changes when it is written and read again.
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
			t.Fatalf("%d bytes of memory for %d", bytes, len(data))
		}
		left := 10_000
		if err != nil || !small(v, &left) {
			return
		}
		reencoded, err := Append(nil, v)
		if err != nil {
			t.Fatalf("%#v is read and not written: %v", v, err)
		}
		w, err := Decode(reencoded)
		if err != nil {
			t.Fatalf("%q is written and not read: %v", reencoded, err)
		}
		if describe(v) != describe(w) {
			t.Fatalf("%s\n%s", describe(v), describe(w))
		}
	})
}

// small reports whether a value has few elements, counting shared ones once for each
// reference.
func small(v any, left *int) bool {
	each := func(elements []any) bool {
		for _, e := range elements {
			if !small(e, left) {
				return false
			}
		}
		return true
	}
	if *left--; *left < 0 {
		return false
	}
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case []byte:
		*left -= len(v)
	case *big.Int:
		*left -= v.BitLen()
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
			if !small(item.Key, left) || !small(item.Value, left) {
				return false
			}
		}
	}
	return *left >= 0
}
