package datafile

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// TestBatchSizeLimit checks that batches have few rows if many rows of a short file use a long text in its
// dictionary: without a condition, and with a condition on the text or on another column.
func TestBatchSizeLimit(t *testing.T) {
	const rows, text = 300, 1 << 18
	mem := memory.DefaultAllocator
	schema := arrow.NewSchema([]arrow.Field{
		withID(1, arrow.Field{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}),
		withID(2, arrow.Field{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}),
		withID(3, arrow.Field{Name: "b", Type: arrow.BinaryTypes.Binary, Nullable: true}),
	}, nil)
	coded := slices.Clone(schema.Fields())
	n, texts, indices := array.NewInt64Builder(mem), array.NewStringBuilder(mem), array.NewInt32Builder(mem)
	texts.AppendValues([]string{strings.Repeat("x", text), "y"}, nil)
	for i := range rows {
		n.Append(int64(i))
		indices.Append(int32(i % 2))
	}
	dictionary := texts.NewArray()
	coded[1].Type = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	coded[2].Type = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.Binary}
	codes := indices.NewArray()
	asBinary := array.NewData(arrow.BinaryTypes.Binary, 2, dictionary.Data().Buffers(), nil, 0, 0)
	all := array.NewRecordBatch(arrow.NewSchema(coded, nil), []arrow.Array{
		n.NewArray(), array.NewDictionaryArray(coded[1].Type, codes, dictionary), array.NewDictionaryArray(coded[2].Type, codes, array.MakeFromData(asBinary)),
	}, rows)
	content := written(t, all, nil, parquet.WithCompression(compress.Codecs.Zstd), parquet.WithStats(false), parquet.WithDictionaryPageSizeLimit(1<<30))
	chunk := must.Get(parse(t, content).MetaData().RowGroup(0).ColumnChunk(1))(t)
	for offset, want := range map[int64]bool{chunk.DictionaryPageOffset(): true, chunk.DataPageOffset(): false, int64(len(content)): true} {
		if arrowsafe.MayBeDictionary(bytes.NewReader(content), offset) != want {
			t.Errorf("MayBeDictionary at %d = %t, want %t", offset, !want, want)
		}
	}
	columns := columnsOf(schema)
	for _, c := range []struct {
		where   string
		columns []Column
		want    int64
	}{
		{"", columns, rows},
		{"n >= 100", columns, 200},
		{"n >= 100 and n != 107", columns[1:2], 199},
		{"s != 'y'", columns, rows / 2},
		{"s != 'y'", columns[:1], rows / 2},
		{"b != 'y'", columns[:2], rows / 2},
	} {
		for _, recycle := range []bool{false, true} {
			s := &Scan{Rows: BatchRows, Columns: c.columns, Recycle: recycle, Workers: 2, Memory: 1 << 30}
			s.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
			if c.where != "" {
				s.choose(bind(t, c.where, schema), columns)
			}
			count, lastRow := int64(0), int64(-1)
			for b, err := range s.Read(t.Context(), []File{{Path: "a file"}}) {
				if err != nil {
					t.Fatalf("scan with %q: %v", c.where, err)
				}
				for i := range int(b.NumRows()) {
					if n, ok := b.Column(0).(*array.Int64); ok {
						if n.Value(i) <= lastRow {
							t.Fatalf("%q: got row %d after row %d, want increasing rows", c.where, n.Value(i), lastRow)
						}
						lastRow = n.Value(i)
					}
					for _, column := range b.Columns() {
						want := "y"
						if lastRow%2 == 0 || c.where == "s != 'y'" || c.where == "b != 'y'" {
							want = strings.Repeat("x", text)
						}
						if a, ok := column.(*array.String); ok && lastRow >= 0 && a.Value(i) != want {
							t.Fatalf("%q: row %d has the wrong text", c.where, lastRow)
						}
					}
				}
				if size := SizeOf(b); size > 3*maxBatchBytes {
					t.Errorf("%q, recycle %t: a batch has %d bytes, want at most %d", c.where, recycle, size, 3*maxBatchBytes)
				}
				count += b.NumRows()
				take.Release([]arrow.RecordBatch{b})
			}
			if count != c.want {
				t.Errorf("%q: got %d rows, want %d", c.where, count, c.want)
			}
		}
	}
	if len(content) > 1<<16 {
		t.Errorf("the file has %d bytes, want at most 64 KiB", len(content))
	}
}
