package datafile

import (
	"bytes"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

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
