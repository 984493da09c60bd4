package schema

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// ErrFullDictionary is the error for an array with more values than a dictionary's index type allows.
var ErrFullDictionary = errors.New("the values are too many for the dictionary's index type")

// encodeDictionary returns a as a dictionary array of type to.
func encodeDictionary(a arrow.Array, to *arrow.DictionaryType) (arrow.Array, error) {
	key := valueKey(a)
	codes, first, err := (&take.Dictionary{Codes: map[string]int32{}}).Encode(a, func(row int) ([]byte, error) { return key(row), nil },
		func(int, []byte) bool { return true })
	if err != nil {
		return nil, err
	}
	defer codes.Release()
	indices, err := ConvertArray(codes, to.IndexType)
	if err != nil { // a code exceeds the index type
		return nil, ErrFullDictionary
	}
	defer indices.Release()
	values, err := expand(a, first, to.ValueType)
	if err != nil {
		return nil, err
	}
	defer values.Release()
	return array.NewDictionaryArray(to, indices, values), nil
}

// valueKey returns a function that returns equal bytes only for equal values of a. If possible, these are the value's
// own bytes, because texts can be rounded, as for date64.
func valueKey(a arrow.Array) func(row int) []byte {
	if e, ok := a.(array.ExtensionArray); ok {
		return valueKey(e.Storage())
	}
	if t, ok := a.DataType().(arrow.FixedWidthDataType); ok && t.BitWidth()%8 == 0 {
		width := t.BitWidth() / 8
		return func(row int) []byte { return a.Data().Buffers()[1].Bytes()[(a.Data().Offset()+row)*width:][:width] }
	}
	if b, ok := a.(interface{ Value(int) []byte }); ok {
		return b.Value
	}
	return func(row int) []byte { return []byte(a.ValueStr(row)) }
}
