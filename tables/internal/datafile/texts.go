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

	"github.com/go-partd/partd/tables/internal/take"
)

// texts is a column of texts by the numbers of its different ones. The library allocates
// memory for each text that it looks up, and takes three times as long.
type texts struct {
	different [][]byte
	numbers   []int32
}

// textsOf returns the texts of a column, nil if its dictionary would be too large.
func textsOf(a arrow.Array) *texts {
	t := &texts{numbers: make([]int32, a.Len())}
	seen, value, size := map[string]int32{}, plainValue(a), 0
	for i := range t.numbers {
		if a.IsNull(i) {
			continue
		}
		v := value(i)
		n, ok := seen[string(v)]
		if !ok {
			if size += 4 + len(v); size > dictionaryBytes || len(t.different) > a.Len()/2 {
				return nil
			}
			n = int32(len(t.different))
			seen[string(v)], t.different = n, append(t.different, v)
		}
		t.numbers[i] = n
	}
	return t
}

// write writes the texts, which are those of a, to a column of a group, in pages.
func (t *texts) write(to pqfile.ColumnChunkWriter, a arrow.Array, levels []int16) error {
	by, ok := to.CurrentEncoder().(interface{ PutDictionary(arrow.Array) error })
	pages, pagewise := to.(pager)
	about, counts := to.PageStatistics().(*metadata.ByteArrayStatistics)
	if !ok || !pagewise || !counts {
		return errors.New("the library does not take a dictionary")
	}
	b := array.NewBinaryBuilder(memory.DefaultAllocator, arrow.BinaryTypes.Binary)
	defer b.Release()
	b.AppendValues(t.different, nil)
	dictionary := b.NewArray()
	defer dictionary.Release()
	if err := by.PutDictionary(dictionary); err != nil {
		return err
	}
	numbers := take.Made(arrow.PrimitiveTypes.Int32, a.Len(), []*memory.Buffer{take.Valid(a), memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(t.numbers))}, nil, a.NullN(), 0)
	defer numbers.Release()
	seen := make([]int, len(t.different)) // the last page that has a text
	rows := min(max(pageBytes/int(width(a)), 1), pageRows)
	for from, page := 0, 1; from < a.Len(); from, page = from+rows, page+1 {
		end := min(from+rows, a.Len())
		part := array.NewSlice(numbers, int64(from), int64(end))
		defer part.Release()
		var at []int16
		if levels != nil {
			at = levels[from:end]
		}
		if err := to.WriteDictIndices(part, at, nil); err != nil {
			return err
		}
		var least, most []byte
		for i, n := range t.numbers[from:end] {
			if seen[n] == page || part.IsNull(i) {
				continue
			}
			seen[n] = page
			v := t.different[n]
			if least == nil || bytes.Compare(v, least) < 0 {
				least = v
			}
			if most == nil || bytes.Compare(v, most) > 0 {
				most = v
			}
		}
		about.IncNulls(int64(part.NullN()))
		about.IncNumValues(int64(part.Len() - part.NullN()))
		if least != nil {
			about.SetMinMax(least, most)
		}
		if err := pages.FlushCurrentPage(); err != nil {
			return err
		}
	}
	return nil
}

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
