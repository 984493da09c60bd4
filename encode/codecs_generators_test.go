package encode

import (
	"math"
	"math/big"
	"time"

	"pgregory.net/rapid"

	"github.com/go-partd/partd/internal/pyvalue/pickle"
)

// record has fields of the types that programs typically store.
type record struct {
	Name    string `json:"name"`
	Count   int64
	Weight  float64 `json:",omitempty"`
	Raw     []byte
	Tags    map[string]string
	Parts   []part
	When    time.Time
	Ignored *part
}

type part struct {
	X, Y int16
	On   bool
}

func drawText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "é", "\x00", "\U0001f600", "a b\n"}))
}

// records generates records without empty slices and maps, which some formats do not distinguish from nil.
func records() *rapid.Generator[record] {
	return rapid.Custom(func(t *rapid.T) record {
		r := record{
			Name:   drawText().Draw(t, "name"),
			Count:  rapid.Int64().Draw(t, "count"),
			Weight: rapid.Float64Range(-1e9, 1e9).Draw(t, "weight"),
			When:   time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC(),
		}
		if n := rapid.IntRange(0, 3).Draw(t, "parts"); n > 0 {
			r.Raw = rapid.SliceOfN(rapid.Byte(), n, 40).Draw(t, "raw")
			r.Tags = map[string]string{drawText().Draw(t, "tag"): "v"}
			for range n {
				r.Parts = append(r.Parts, part{rapid.Int16().Draw(t, "x"), rapid.Int16().Draw(t, "y"), rapid.Bool().Draw(t, "on")})
			}
			r.Ignored = &part{X: 1}
		}
		return r
	})
}

// plainLeaf generates Python values that contain no other values. Unless allTypes is set, it generates no
// bytearrays, because msgpack decodes them as bytes.
func plainLeaf(allTypes bool) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 7).Draw(t, "leaf") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.Int64().Draw(t, "int")
		case 3:
			b := rapid.SliceOfN(rapid.Byte(), 9, 40).Draw(t, "big")
			n := new(big.Int).SetBytes(append([]byte{1}, b...))
			if rapid.Bool().Draw(t, "negative") {
				n.Neg(n)
			}
			return n
		case 4:
			return rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.Inf(1), math.NaN(), math.Copysign(0, -1)})).Draw(t, "float")
		case 5:
			return rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		case 6:
			if allTypes {
				return PyByteArray(rapid.SliceOf(rapid.Byte()).Draw(t, "bytearray"))
			}
		}
		return drawText().Draw(t, "str")
	})
}

func plainKey() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Map(drawText(), func(s string) any { return s }),
		rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return b }),
		rapid.Map(drawText(), func(s string) any { return PyTuple{s, int64(1), PyFrozenSet{s}} }),
	)
}

// plainValues generates Python values. Unless allTypes is set, they contain neither tuples nor bytearrays,
// which msgpack does not preserve.
func plainValues(allTypes bool, depth int) *rapid.Generator[any] {
	if depth == 0 {
		return plainLeaf(allTypes)
	}
	return rapid.Custom(func(t *rapid.T) any {
		inner := plainValues(allTypes, depth-1)
		elements := func() []any { return rapid.SliceOfN(inner, 0, 4).Draw(t, "elements") }
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			return elements()
		case 1:
			if allTypes {
				return PyTuple(elements())
			}
		case 2:
			dict := PyDict{}
			for _, k := range distinctKeys(t) {
				dict = append(dict, PyItem{Key: k, Value: inner.Draw(t, "value")})
			}
			return dict
		case 3:
			return PySet(distinctKeys(t))
		case 4:
			return PyFrozenSet(distinctKeys(t))
		}
		return plainLeaf(allTypes).Draw(t, "leaf")
	})
}

func distinctKeys(t *rapid.T) []any {
	return rapid.SliceOfNDistinct(plainKey(), 0, 10, plainText).Draw(t, "keys")
}

// plainText returns equal texts for equal plain values.
func plainText(v any) string {
	b, err := pickle.Append(nil, v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
