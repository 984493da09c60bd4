package datafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
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

// write writes a column of a row group in pages, as a dictionary and codes. a is the column as strings.
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

// A row group's strings are read as dictionary codes if the dictionary contains all of them and is much shorter than
// the group. A condition is then evaluated once per dictionary entry, and only matching rows are copied.

const (
	minRowsPerCode = 16 // minimum average number of rows per code
	dictionaryPage = 2  // Parquet's page type of a dictionary page
)

// dictionarySize returns the number of strings in a row group's dictionary, or 0 if the column cannot be read as codes.
func (f *file) dictionarySize(g group, field *pqarrow.SchemaField, typ arrow.DataType) int {
	if !field.IsLeaf() || typ.ID() != arrow.STRING || field.Field.Type.ID() != arrow.STRING {
		return 0
	}
	rowGroup := f.parsed.RowGroup(g.number)
	chunk, err := rowGroup.MetaData().ColumnChunk(field.ColIndex)
	if err != nil || !chunk.HasDictionaryPage() || len(chunk.EncodingStats()) == 0 {
		return 0
	}
	for _, s := range chunk.EncodingStats() {
		if s.PageType != dictionaryPage && s.Encoding != parquet.Encodings.RLEDict && s.Encoding != parquet.Encodings.PlainDict {
			return 0
		}
	}
	distinct := map[string]bool{} // Other writers may have given a string several codes, which Arrow would merge.
	n := f.visitDictionary(g, field.ColIndex, func(n int64, text []byte) bool {
		if n <= g.rows/minRowsPerCode {
			distinct[string(text)] = true
		}
		return n <= g.rows/minRowsPerCode
	})
	if n != len(distinct) {
		return 0
	}
	return n
}

// visitDictionary calls visit for each string in a column's dictionary until visit returns false. It returns the
// dictionary's length n, or 0 if visit returned false or there is no dictionary.
func (f *file) visitDictionary(g group, leaf int, visit func(n int64, text []byte) bool) int {
	rowGroup := f.parsed.RowGroup(g.number)
	chunk, err := rowGroup.MetaData().ColumnChunk(leaf)
	if err != nil {
		return 0
	}
	pages, err := rowGroup.GetColumnPageReader(leaf)
	if err != nil {
		return 0
	}
	defer pages.Close() //nolint:errcheck // opened only for reading
	var page *pqfile.DictionaryPage
	if offset := chunk.DictionaryPageOffset(); offset > 0 && offset < chunk.DataPageOffset() {
		page, err = pages.GetDictionaryPage()
	} else if arrowsafe.MayBeDictionary(f.opened, chunk.DataPageOffset()) && pages.Next() { // The footer may omit the dictionary.
		page, _ = pages.Page().(*pqfile.DictionaryPage)
	}
	if err != nil || page == nil {
		return 0
	}
	for entries := page.Data(); len(entries) >= 4; {
		n := uint64(binary.LittleEndian.Uint32(entries))
		entries = entries[4:]
		if n > uint64(len(entries)) || !visit(int64(page.NumValues()), entries[:n]) {
			return 0
		}
		entries = entries[n:]
	}
	return int(page.NumValues())
}

const (
	maxBatchBytes = 4 << 20 // upper bound on batchBytes
	minBatchBytes = 64 << 10

	// RecycledBytes is the approximate maximum size of a batch if Scan.Recycle is set and there is no condition. A
	// server can send the batch as one message without copying it: many gRPC programs reject more than 4 MiB.
	RecycledBytes = 3840 << 10
)

// batchBytes returns the approximate limit for the decoded strings of a batch, in bytes. It applies separately to the
// condition's columns and to the others. With this limit, all batches that are decoded ahead fit in the scan's
// memory.
func (s *Scan) batchBytes() int64 {
	if s.Workers < 2 {
		return maxBatchBytes
	}
	return min(maxBatchBytes, max(minBatchBytes, s.Memory/int64(2*s.Workers*(maxAhead+1))))
}

// stepRows returns the number of rows to decode at a time, so that their strings take at most batchBytes. A short file
// with a dictionary can contain gigabytes of strings.
func (f *file) stepRows(g group, leaves map[int]*chunkPages) int64 {
	width, limit := int64(0), f.scan.batchBytes() // width is the estimated size of a row in bytes
	for leaf, pages := range leaves {
		chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
		if err != nil {
			continue
		}
		column, longest := f.parsed.MetaData().Schema.Column(leaf), pages.longest
		switch column.PhysicalType() {
		case parquet.Types.FixedLenByteArray:
			longest = int64(column.TypeLength())
		case parquet.Types.ByteArray:
			f.visitDictionary(g, leaf, func(_ int64, text []byte) bool {
				longest = max(longest, int64(len(text)))
				return true
			})
		default:
			continue
		}
		values := max(chunk.NumValues()/g.rows, 1) // values per row: more than one if the column is a list
		width += max(longest*min(values, limit), chunk.TotalUncompressedSize()/g.rows)
		width = min(width, limit)
	}
	rows := min(f.scan.Rows, limit/max(width, 1))
	if f.scan.Recycle && f.scan.Where == nil {
		rows = min(rows, RecycledBytes*g.rows/max(g.size, 1))
	}
	return max(1, rows)
}

// withDictionaryType returns field with a dictionary type. The Parquet library then reads the column as codes.
func withDictionaryType(field pqarrow.SchemaField) pqarrow.SchemaField {
	dictionaryField := *field.Field
	dictionaryField.Type = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: dictionaryField.Type}
	field.Field = &dictionaryField
	return field
}

// checkCodes returns an error unless the dictionary has dictionarySize strings and contains all codes.
func checkCodes(a arrow.Array, dictionarySize int) error {
	column := a.(*array.Dictionary)
	if n := column.Dictionary().Len(); n != dictionarySize {
		return fmt.Errorf("the dictionary has %d strings instead of %d: the file is damaged", n, dictionarySize)
	}
	for i, code := range column.Indices().(*array.Int32).Int32Values() {
		if uint32(code) >= uint32(dictionarySize) && column.IsValid(i) {
			return fmt.Errorf("code %d is outside the dictionary of %d strings: the file is damaged", code, dictionarySize)
		}
	}
	return nil
}

// decode converts a column that was read as codes to strings. It returns other columns unchanged.
func decode(a arrow.Array) (arrow.Array, error) {
	codes, ok := a.(*array.Dictionary)
	if !ok {
		return a, nil
	}
	indices := make([]int, a.Len())
	for i, code := range codes.Indices().(*array.Int32).Int32Values() {
		indices[i] = int(code)
		if a.IsNull(i) {
			indices[i] = -1
		}
	}
	return take.Rows(codes.Dictionary(), indices)
}
