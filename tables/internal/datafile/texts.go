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

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/take"
)

// texts is a column of texts as a dictionary and indices into it. The library's dictionary encoder
// allocates memory for each lookup, and takes three times as long.
type texts struct {
	different [][]byte
	numbers   []int32
}

// textsOf returns the dictionary of a column, or nil if it would be too large.
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

// write writes the texts of a to a column of a group, in pages.
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
	numbers := take.NewArray(arrow.PrimitiveTypes.Int32, a.Len(), []*memory.Buffer{take.NullBitmap(a), memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(t.numbers))}, nil, a.NullN(), 0)
	defer numbers.Release()
	seen := make([]int, len(t.different)) // the last page that contains each text
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

// A group's texts are read as dictionary codes if all are in the dictionary, and it is much shorter
// than the group. A condition is then evaluated once for each text of the dictionary, and only kept
// rows are copied.

const (
	rowsOfCode     = 16 // minimum of the rows per code, on average
	dictionaryPage = 2  // Parquet's page type
)

// codes returns the number of texts in a group's dictionary, or 0 if the column cannot be read as
// codes.
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
	seen := map[string]bool{} // Arrow merges equal texts, but other writers may give a text several codes
	n := f.dictionary(g, field.ColIndex, func(n int64, text []byte) bool {
		if n <= g.rows/rowsOfCode {
			seen[string(text)] = true
		}
		return n <= g.rows/rowsOfCode
	})
	if n != len(seen) {
		return 0
	}
	return n
}

// dictionary calls each with the number of texts in a column's dictionary, and with every text,
// until each returns false. It returns the number, or 0 if each returned false or there is no
// dictionary.
func (f *file) dictionary(g group, leaf int, each func(n int64, text []byte) bool) int {
	rows := f.parsed.RowGroup(g.number)
	chunk, err := rows.MetaData().ColumnChunk(leaf)
	if err != nil {
		return 0
	}
	pages, err := rows.GetColumnPageReader(leaf)
	if err != nil {
		return 0
	}
	defer pages.Close() //nolint:errcheck // opened only for reading
	var page *pqfile.DictionaryPage
	if at := chunk.DictionaryPageOffset(); at > 0 && at < chunk.DataPageOffset() {
		page, err = pages.GetDictionaryPage()
	} else if arrowsafe.MayBeDictionary(f.opened, chunk.DataPageOffset()) && pages.Next() { // the footer may not mention it
		page, _ = pages.Page().(*pqfile.DictionaryPage)
	}
	if err != nil || page == nil {
		return 0
	}
	for texts := page.Data(); len(texts) >= 4; {
		n := uint64(binary.LittleEndian.Uint32(texts))
		if texts = texts[4:]; n > uint64(len(texts)) || !each(int64(page.NumValues()), texts[:n]) {
			return 0
		}
		texts = texts[n:]
	}
	return int(page.NumValues())
}

const (
	batchBytes    = 4 << 20 // approximate limit for the decoded texts of a batch
	minBatchBytes = 64 << 10
)

// batchBytes returns the approximate limit for the decoded texts of a batch. It applies to the
// condition's columns and to the other columns separately, so that all batches that are read ahead
// fit in the scan's memory.
func (s *Scan) batchBytes() int64 {
	if s.Workers < 2 {
		return batchBytes
	}
	return min(batchBytes, max(minBatchBytes, s.Memory/int64(2*s.Workers*(ahead+1))))
}

// stepRows returns the number of a group's rows to decode at once, so that their texts take at most
// batchBytes. With a dictionary, a short file can contain gigabytes of texts. Numbers are not
// counted.
func (f *file) stepRows(g group, all map[int]bool) int64 {
	width, limit := int64(0), f.scan.batchBytes() // width of a row
	for leaf := range all {
		chunk, err := f.parsed.MetaData().RowGroup(g.number).ColumnChunk(leaf)
		if err != nil {
			continue
		}
		column, longest := f.parsed.MetaData().Schema.Column(leaf), int64(0)
		switch column.PhysicalType() {
		case parquet.Types.FixedLenByteArray:
			longest = int64(column.TypeLength())
		case parquet.Types.ByteArray:
			f.dictionary(g, leaf, func(_ int64, text []byte) bool {
				longest = max(longest, int64(len(text)))
				return true
			})
		default:
			continue
		}
		values := max(chunk.NumValues()/g.rows, 1) // lists have several
		width += max(longest*min(values, limit), chunk.TotalUncompressedSize()/g.rows)
		width = min(width, limit)
	}
	return max(1, min(f.scan.Rows, limit/max(width, 1)))
}

// coded returns a field that is read as codes.
func coded(field pqarrow.SchemaField) pqarrow.SchemaField {
	as := *field.Field
	as.Type = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: as.Type}
	field.Field = &as
	return field
}

// checkCodes checks that codes are within a dictionary of the given number of texts.
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

// decode returns the texts of a column that was read as codes, and other columns unchanged.
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
