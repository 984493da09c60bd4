package take

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Dictionary assigns codes to values, in order of first appearance.
type Dictionary struct {
	Codes map[string]int32 // codes of the known values, by key
	Len   int              // the next code
}

// Encode returns the codes of a's rows, and the rows whose values are new in d. Rows have the same code if keyOf
// returns equal keys for them; keyOf may reuse its result. Encode stops before the first new value for which mayAdd
// returns false. The caller must release the codes. It is used instead of the dictionary builders of arrow-go 18.8,
// which do not support every type of value.
func (d *Dictionary) Encode(a arrow.Array, keyOf func(row int) ([]byte, error), mayAdd func(code int, key []byte) bool) (codes *array.Int32, newRows []int, err error) {
	all := make([]int32, a.Len())
	n, nulls := 0, 0
	for ; n < len(all); n++ {
		if a.IsNull(n) {
			nulls++
			continue
		}
		key, err := keyOf(n)
		if err != nil {
			return nil, nil, err
		}
		code, ok := d.Codes[string(key)]
		if !ok {
			if !mayAdd(d.Len, key) {
				break
			}
			code = int32(d.Len)
			d.Codes[string(key)] = code
			d.Len++
			newRows = append(newRows, n)
		}
		all[n] = code
	}
	var bitmap *memory.Buffer
	if nulls > 0 {
		bitmap = NullBitmap(a)
	}
	buffers := []*memory.Buffer{bitmap, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(all))}
	return NewArray(arrow.PrimitiveTypes.Int32, n, buffers, nil, nulls, 0).(*array.Int32), newRows, nil
}
