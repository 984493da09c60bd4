package datafile

import (
	"bytes"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// stringDictionary is a string column as a dictionary and codes. The library's dictionary encoder takes three times as
// long to build the dictionary, because it allocates memory for each lookup.
type stringDictionary struct {
	values [][]byte
	codes  *array.Int32
}

// stringDictionaryOf returns a column's dictionary and codes, or nil if the dictionary would exceed dictionaryBytes.
func stringDictionaryOf(a arrow.Array) *stringDictionary {
	value, size := plainValue(a), 0
	codes, rows, _ := (&take.Dictionary{Codes: map[string]int32{}}).Encode(a, func(row int) ([]byte, error) { return value(row), nil }, func(n int, v []byte) bool {
		size += 4 + len(v)
		return size <= dictionaryBytes && n <= a.Len()/2
	})
	if codes.Len() < a.Len() {
		codes.Release()
		return nil
	}
	t := &stringDictionary{make([][]byte, len(rows)), codes}
	for i, row := range rows {
		t.values[i] = value(row)
	}
	return t
}

// write writes a dictionary and pages of codes. a is the same column as strings.
func (t *stringDictionary) write(writer pqfile.ColumnChunkWriter, a arrow.Array, levels []int16) error {
	encoder, ok := writer.CurrentEncoder().(interface{ PutDictionary(arrow.Array) error })
	pages, hasPages := writer.(pager)
	stats, hasStats := writer.PageStatistics().(*metadata.ByteArrayStatistics)
	if !ok || !hasPages || !hasStats {
		return errors.New("the library's column writer does not accept a dictionary")
	}
	b := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
	defer b.Release()
	b.AppendValues(t.values, nil)
	dictionary := b.NewArray()
	defer dictionary.Release()
	if err := encoder.PutDictionary(dictionary); err != nil {
		return err
	}
	lastPage := make([]int, len(t.values)) // for each string, the last page that contains it
	rows := min(max(pageBytes/int(width(a)), 1), pageRows)
	for start, page := 0, 1; start < a.Len(); start, page = start+rows, page+1 {
		end := min(start+rows, a.Len())
		pageCodes := array.NewSlice(t.codes, int64(start), int64(end))
		defer pageCodes.Release()
		var pageLevels []int16
		if levels != nil {
			pageLevels = levels[start:end]
		}
		if err := writer.WriteDictIndices(pageCodes, pageLevels, nil); err != nil {
			return err
		}
		var minValue, maxValue []byte
		for i, code := range t.codes.Int32Values()[start:end] {
			if lastPage[code] == page || pageCodes.IsNull(i) {
				continue
			}
			lastPage[code] = page
			v := t.values[code]
			if minValue == nil || bytes.Compare(v, minValue) < 0 {
				minValue = v
			}
			if maxValue == nil || bytes.Compare(v, maxValue) > 0 {
				maxValue = v
			}
		}
		stats.IncNulls(int64(pageCodes.NullN()))
		stats.IncNumValues(int64(pageCodes.Len() - pageCodes.NullN()))
		if minValue != nil {
			stats.SetMinMax(minValue, maxValue)
		}
		if err := pages.FlushCurrentPage(); err != nil {
			return err
		}
	}
	return nil
}
