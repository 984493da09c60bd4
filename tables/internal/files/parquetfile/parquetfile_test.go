package parquetfile

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRowGroups checks that large row groups are written early, to limit memory, and that small batches share
// a row group.
func TestRowGroups(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "b", Type: arrow.BinaryTypes.Binary}}, nil)
	rnd, value := rand.NewChaCha8([32]byte{}), make([]byte, 100)
	for _, c := range []struct{ batches, rows, groups int }{{1000, 10, 1}, {50, 10_000, 3}} {
		w := must.Get(NewWriter(io.Discard, columns))(t)
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for range c.batches {
			for range c.rows {
				_, _ = rnd.Read(value)
				b.Field(0).(*array.BinaryBuilder).Append(value)
			}
			batch := b.NewRecordBatch()
			must.Do(t, w.Write(batch))
			batch.Release()
		}
		b.Release()
		must.Do(t, w.Close())
		fileMetadata := must.Get(w.file.FileMetadata())(t)
		if fileMetadata.NumRows != int64(c.batches*c.rows) || len(fileMetadata.RowGroups) != c.groups {
			t.Errorf("%d rows in %d row groups, want %d in %d", fileMetadata.NumRows, len(fileMetadata.RowGroups), c.batches*c.rows, c.groups)
		}
	}
}

// TestNaN checks that no bounds of floats are written, because they would exclude NaN.
func TestNaN(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64},
		{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "g", Type: arrow.PrimitiveTypes.Float32}, arrow.Field{Name: "h", Type: arrow.FixedWidthTypes.Float16})},
	}, nil)
	w := must.Get(NewWriter(io.Discard, columns))(t)
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(`[{"n":1,"f":1,"s":{"g":1,"h":1}},{"n":2,"f":"NaN","s":{"g":"NaN","h":2}}]`))
	must.Do(t, errors.Join(err, w.Write(b), w.Close()))
	fileMetadata := must.Get(w.file.FileMetadata())(t)
	for i := range 4 {
		chunk := must.Get(fileMetadata.RowGroup(0).ColumnChunk(i))(t)
		s, err := chunk.Statistics()
		if hasBounds := s != nil && s.HasMinMax(); err != nil || hasBounds != (i == 0) {
			t.Errorf("leaf column %d: has bounds = %v, %v, want bounds only for integers", i, hasBounds, err)
		}
	}
}

// TestRequiredFieldNull checks that a null in a required nested field is refused, because the library would
// shift values to other rows.
func TestRequiredFieldNull(t *testing.T) {
	list := arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int64})
	values, _, err := array.FromJSON(memory.DefaultAllocator, arrow.StructOf(arrow.Field{Name: "l", Type: list, Nullable: true}), strings.NewReader(`[{"l":[1,null]}]`))
	must.Do(t, err)
	batch := array.RecordFromStructArray(values.(*array.Struct), nil)
	w, err := NewWriter(io.Discard, batch.Schema())
	if err == nil {
		err = w.Write(batch)
	}
	must.Fail(t, err, `column "l": field "l.element" is null in row 1`, "Write")
}

// TestFastCompression checks that the fast layout compresses the columns that Snappy shrinks, and no others.
func TestFastCompression(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "random", Type: arrow.BinaryTypes.Binary},
		{Name: "text", Type: arrow.BinaryTypes.String},
		{Name: "noise", Type: arrow.PrimitiveTypes.Uint64},
		{Name: "number", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	rnd, value := rand.NewChaCha8([32]byte{}), make([]byte, 100)
	for i := range 2000 {
		_, _ = rnd.Read(value)
		b.Field(0).(*array.BinaryBuilder).Append(value)
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("the same words in every row, and the number %d", i))
		b.Field(2).(*array.Uint64Builder).Append(rnd.Uint64())
		b.Field(3).(*array.Int64Builder).Append(int64(i))
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	rows := batch.NewSlice(100, batch.NumRows())
	defer rows.Release()
	for _, isSmall := range []bool{false, true} {
		l := must.Get(NewFastLayout(rows, isSmall))(t)
		for name, want := range map[string]compress.Compression{
			"random": compress.Codecs.Uncompressed, "text": compress.Codecs.Snappy,
			"noise": compress.Codecs.Uncompressed, "number": compress.Codecs.Snappy,
		} {
			if codec := l.properties.CompressionFor(name); codec != want {
				t.Errorf("small %t: column %s is compressed with %s, want %s", isSmall, name, codec, want)
			}
		}
	}
}
