package sorted

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestExactKeyAppender checks that no encoding of a value equals, or is a prefix of, the encoding of another value.
func TestExactKeyAppender(t *testing.T) {
	keyOf := func(a arrow.Array, row int) []byte { return ExactKeyAppender(a, math.MaxInt)(nil, row) }
	item := arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, arrow.Field{Name: "y", Type: arrow.BinaryTypes.String, Nullable: true})
	for typ, json := range map[arrow.DataType]string{
		arrow.FixedWidthTypes.Boolean:                  `[null,true,false]`,
		arrow.PrimitiveTypes.Int32:                     `[null,-1,0,1]`,
		arrow.BinaryTypes.String:                       `[null,"","a","\u0000","a\u0000","a\u0000b","ab"]`,
		&arrow.Decimal128Type{Precision: 38, Scale: 2}: `[null,"0.00","-0.01","0.01","123456789012345678901234567890123456.78","123456789012345678901234567890123456.79"]`,
		&arrow.FixedSizeBinaryType{ByteWidth: 3}:       `[null,"AAAA","AAAB","////"]`,
		arrow.ListOf(arrow.BinaryTypes.String):         `[null,[],[null],[""],["",""],["a"],["a",null],["a","b"],["ab"]]`,
		item:                                           `[null,{"x":null,"y":null},{"x":1,"y":null},{"x":1,"y":""},{"x":null,"y":"1"}]`,
		arrow.ListOf(item):                             `[[{"x":1,"y":"a"}],[{"x":1,"y":"a"},{"x":1,"y":"a"}],[{"x":1,"y":null}],[null]]`,
		arrow.MapOf(arrow.BinaryTypes.String, arrow.BinaryTypes.String): `[null,[],[{"key":"a","value":"b"}],[{"key":"a","value":null}],[{"key":"b","value":"a"}]]`,
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(json))
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		for i := range a.Len() {
			for j := range a.Len() {
				x, y := keyOf(a, i), keyOf(a, j)
				if (i == j) != bytes.Equal(x, y) || i != j && bytes.HasPrefix(x, y) {
					t.Errorf("%s: values %s and %s have the encodings %q and %q", typ, a.ValueStr(i), a.ValueStr(j), x, y)
				}
			}
		}
		if sliced := array.NewSlice(a, 1, int64(a.Len())); !bytes.Equal(keyOf(sliced, 0), keyOf(a, 1)) {
			t.Errorf("%s: the encoding depends on the array's offset", typ)
		}
	}
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	b.AppendValues([]float64{math.NaN(), math.Float64frombits(0x7ff8000000000123), math.Copysign(0, -1), 0, -math.SmallestNonzeroFloat64, math.SmallestNonzeroFloat64, math.Inf(-1)}, nil)
	floats := b.NewArray()
	for i := range floats.Len() {
		for j := range floats.Len() {
			if want := i == j || i < 2 && j < 2; bytes.Equal(keyOf(floats, i), keyOf(floats, j)) != want {
				t.Errorf("floats %d and %d have equal encodings: %v, want %v", i, j, !want, want)
			}
		}
	}
}
