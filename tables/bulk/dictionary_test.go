package bulk_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
)

// TestFullDictionaries checks rows of batches that together have more values than one dictionary can hold.
func TestFullDictionaries(t *testing.T) {
	words := func(index arrow.DataType) arrow.DataType {
		return &arrow.DictionaryType{IndexType: index, ValueType: arrow.BinaryTypes.String}
	}
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.BinaryTypes.String},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "few", Type: words(arrow.PrimitiveTypes.Uint8)},
		{Name: "fewer", Type: words(arrow.PrimitiveTypes.Int8), Nullable: true},
	}, nil)
	var batches []arrow.RecordBatch
	for i := range 10 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for row := range 100 {
			n := 100*i + row
			b.Field(0).(*array.StringBuilder).Append("x")
			b.Field(1).(*array.Int64Builder).Append(int64(n))
			for _, f := range b.Fields()[2:] {
				must.Do(t, f.(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint("word ", n)))
			}
		}
		batches = append(batches, b.NewRecordBatch())
	}
	rows := func() array.RecordReader {
		r := must.Get(array.NewRecordReader(columns, batches))(t)
		return r
	}
	want, _ := read(t, rows(), nil)
	sorted, err := bulk.Sort(t.Context(), rows(), &bulk.SortOptions{By: []string{"n"}})
	if got, schema := read(t, sorted, err); !slices.Equal(got, want) || !sameTypes(schema, columns) {
		t.Errorf("Sort returns %d rows with %v, want %d with %v", len(got), schema, len(want), columns)
	}
	for _, format := range []string{"arrow", "parquet"} {
		types := columns
		if format == "parquet" { // one index type is for the values of all batches
			fields := columns.Fields()
			fields[2].Type, fields[3].Type = words(arrow.PrimitiveTypes.Int32), words(arrow.PrimitiveTypes.Int32)
			types = arrow.NewSchema(fields, nil)
		}
		dir := filepath.Join(t.TempDir(), "out")
		if _, err := bulk.Split(t.Context(), rows(), &bulk.SplitOptions{By: []string{"k"}, Dir: dir, Format: format}); err != nil {
			t.Errorf("Split to %s: %v", format, err)
			continue
		}
		r, err := bulk.Open(t.Context(), filepath.Join(dir, "x."+format))
		if got, schema := read(t, r, err); !slices.Equal(got, want) || !sameTypes(schema, types) {
			t.Errorf("the file of %s has %d rows with %v, want %d with %v", format, len(got), schema, len(want), types)
		}
	}
}
