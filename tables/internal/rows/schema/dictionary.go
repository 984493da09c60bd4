package schema

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// ErrFullDictionary is wrapped by the error for an array with more values than a dictionary's index type allows.
var ErrFullDictionary = errors.New("the values are too many for the dictionary's index type")

// encodeDictionary returns the values of a with a dictionary.
func encodeDictionary(a arrow.Array, to *arrow.DictionaryType) (arrow.Array, error) {
	var key []byte
	codes, first, err := (&take.Dictionary{Codes: map[string]int32{}}).Encode(a, func(row int) ([]byte, error) {
		key = append(key[:0], a.ValueStr(row)...)
		return key, nil
	}, func(int, []byte) bool { return true })
	if err != nil {
		return nil, err
	}
	defer codes.Release()
	indices, err := ConvertArray(codes, to.IndexType)
	if err != nil { // a code exceeds the type
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
