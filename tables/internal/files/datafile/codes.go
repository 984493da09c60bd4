package datafile

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// A row group's strings are read as dictionary codes if the dictionary contains all of them and is much shorter than
// the group. A condition is then evaluated once per dictionary entry, and only matching rows are copied.

const (
	minRowsPerCode = 16 // minimum average number of rows per code
	dictionaryPage = 2  // Parquet's page type for a dictionary page
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
	distinct := map[string]bool{} // other writers may have given a string several codes, which Arrow would merge
	n := VisitDictionary(f.opened, rowGroup, field.ColIndex, func(n int64, text []byte) bool {
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

// VisitDictionary calls visit with a dictionary's length n and each of its strings, until visit returns false. It
// returns n, or 0 if visit returned false or the column has no dictionary. in is the row group's Parquet file.
func VisitDictionary(in io.ReaderAt, rowGroup *pqfile.RowGroupReader, leaf int, visit func(n int64, text []byte) bool) int {
	chunk, err := rowGroup.MetaData().ColumnChunk(leaf)
	if err != nil {
		return 0
	}
	offset := chunk.DictionaryPageOffset()
	isKnown := offset > 0 && offset < chunk.DataPageOffset() // The footer may omit the dictionary.
	if !isKnown && !arrowsafe.MayBeDictionary(in, chunk.DataPageOffset()) {
		return 0
	}
	pages, err := rowGroup.GetColumnPageReader(leaf)
	if err != nil {
		return 0
	}
	defer pages.Close() //nolint:errcheck // opened only for reading
	var page *pqfile.DictionaryPage
	if isKnown {
		page, err = pages.GetDictionaryPage()
	} else if pages.Next() {
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

// batchBytes returns the approximate limit, in bytes, for the decoded strings in a batch. It applies separately to the
// condition's columns and to the others. With this limit, all batches that are decoded ahead fit into the scan's
// memory.
func (s *Scan) batchBytes() int64 {
	if s.Workers < 2 {
		return maxBatchBytes
	}
	return min(maxBatchBytes, max(minBatchBytes, s.Memory/int64(2*s.Workers*(maxAhead+1))))
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
