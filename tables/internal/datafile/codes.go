package datafile

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/tables/internal/take"
)

// Where all texts of a group are from a dictionary that is much shorter, they are read as
// codes: a condition is decided once for each text of the dictionary, and only those of rows
// that are kept are copied.

const (
	rowsOfCode     = 16 // at least, on average
	dictionaryPage = 2  // the type of a page
)

// codes returns how many texts there are codes for in a group; 0 where it has not only codes.
func (f *file) codes(g group, field *pqarrow.SchemaField, to arrow.DataType) int {
	if !field.IsLeaf() || to.ID() != arrow.STRING || field.Field.Type.ID() != arrow.STRING {
		return 0
	}
	rows := f.parsed.RowGroup(g.number)
	chunk, err := rows.MetaData().ColumnChunk(field.ColIndex)
	if err != nil || !chunk.HasDictionaryPage() || len(chunk.EncodingStats()) == 0 {
		return 0
	}
	for _, s := range chunk.EncodingStats() {
		if s.PageType != dictionaryPage && s.Encoding != parquet.Encodings.RLEDict && s.Encoding != parquet.Encodings.PlainDict {
			return 0
		}
	}
	pages, err := rows.GetColumnPageReader(field.ColIndex)
	if err != nil {
		return 0
	}
	defer pages.Close() //nolint:errcheck // it was only read
	page, err := pages.GetDictionaryPage()
	if err != nil || page == nil || int64(page.NumValues()) > g.rows/rowsOfCode {
		return 0
	}
	seen := map[string]bool{} // Arrow has each text once, whatever the codes are that somebody else wrote
	for texts := page.Data(); len(texts) >= 4; {
		n := uint64(binary.LittleEndian.Uint32(texts))
		if texts = texts[4:]; n > uint64(len(texts)) {
			return 0
		}
		seen[string(texts[:n])] = true
		texts = texts[n:]
	}
	if len(seen) != int(page.NumValues()) {
		return 0
	}
	return len(seen)
}

// coded has a field read as codes.
func coded(field pqarrow.SchemaField) pqarrow.SchemaField {
	as := *field.Field
	as.Type = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: as.Type}
	field.Field = &as
	return field
}

// checkCodes looks at codes of so many texts.
func checkCodes(a arrow.Array, texts int) error {
	all := a.(*array.Dictionary)
	if n := all.Dictionary().Len(); n != texts {
		return fmt.Errorf("it has %d texts, its dictionary %d: the file is damaged", n, texts)
	}
	for i, code := range all.Indices().(*array.Int32).Int32Values() {
		if uint32(code) >= uint32(texts) && all.IsValid(i) {
			return fmt.Errorf("it has a code %d of %d texts: the file is damaged", code, texts)
		}
	}
	return nil
}

// decode returns the texts of a column that was read as codes, and others as they are.
func decode(a arrow.Array) (arrow.Array, error) {
	codes, ok := a.(*array.Dictionary)
	if !ok {
		return a, nil
	}
	at := make([]int, a.Len())
	for i, code := range codes.Indices().(*array.Int32).Int32Values() {
		if at[i] = int(code); a.IsNull(i) {
			at[i] = -1
		}
	}
	return take.Rows(codes.Dictionary(), at)
}
