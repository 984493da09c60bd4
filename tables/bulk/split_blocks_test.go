package bulk_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/faces/formats"
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
		{Name: "list", Type: arrow.ListOf(words(arrow.PrimitiveTypes.Int8)), Nullable: true},
	}, nil)
	var batches []arrow.RecordBatch
	for i := range 10 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for row := range 100 {
			n := 100*i + row
			b.Field(0).(*array.StringBuilder).Append("x")
			b.Field(1).(*array.Int64Builder).Append(int64(n))
			b.Field(4).(*array.ListBuilder).Append(true)
			for _, f := range []array.Builder{b.Field(2), b.Field(3), b.Field(4).(*array.ListBuilder).ValueBuilder()} {
				must.Do(t, f.(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint("word ", n)))
			}
		}
		batches = append(batches, b.NewRecordBatch())
	}
	rows := func() array.RecordReader {
		return must.Get(array.NewRecordReader(columns, batches))(t)
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
			fields[4].Type = arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.BinaryTypes.String, Nullable: true})
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

// TestMaxBlock checks that rows are written before they are more than can be joined, if there is memory for more.
func TestMaxBlock(t *testing.T) {
	defer func(max int64) { *bulk.MaxBlock = max }(*bulk.MaxBlock)
	*bulk.MaxBlock = 8 << 10
	const size, rows = 16 << 10, 160 << 10
	dir := filepath.Join(t.TempDir(), "out")
	must.Get(bulk.Split(t.Context(), numbers(memory.DefaultAllocator, rows, size, nil), &bulk.SplitOptions{By: []string{"k"}, Dir: dir}))(t)
	r := must.Get(file.OpenParquetFile(filepath.Join(dir, "0.parquet"), false))(t)
	defer r.Close()
	if r.NumRows() != rows || r.NumRowGroups() != 10 {
		t.Errorf("the file has %d rows in %d row groups, want %d in 10", r.NumRows(), r.NumRowGroups(), rows)
	}
}

// TestSmallBatches checks that batches of one row, which are small but take much memory, are joined early.
func TestSmallBatches(t *testing.T) {
	const rows, maxBatches = 40_000, 10_000
	for name, run := range map[string]func(array.RecordReader) error{
		"split": func(r array.RecordReader) error {
			_, err := bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{"k"}, Dir: filepath.Join(t.TempDir(), "out")})
			return err
		},
		"sort": func(r array.RecordReader) error {
			sorted, err := bulk.Sort(t.Context(), r, &bulk.SortOptions{By: []string{"k"}})
			if err == nil {
				read(t, sorted, nil)
			}
			return err
		},
	} {
		allocated := memory.NewCheckedAllocator(memory.DefaultAllocator)
		first, peak := 0, 0
		r := numbers(allocated, rows, 1, func() {
			if n := allocated.CurrentAlloc(); first == 0 {
				first = n
			} else {
				peak = max(peak, n)
			}
		})
		must.Do(t, run(r))
		if peak > maxBatches*first {
			t.Errorf("%s: up to %d batches of one row were in memory, want at most %d", name, peak/first, maxBatches)
		}
	}
}

// numbers returns a reader of rows in batches of size rows, and calls made after it has made a batch.
func numbers(mem memory.Allocator, rows, size int, made func()) array.RecordReader {
	columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
		for range rows / size {
			b := array.NewRecordBuilder(mem, columns)
			for range size {
				b.Field(0).(*array.Int64Builder).Append(0)
			}
			batch := b.NewRecordBatch()
			if b.Release(); made != nil {
				made()
			}
			if !yield(batch, nil) {
				return
			}
		}
	})
}

// TestLayoutFails checks that Split releases all rows if the format cannot choose a layout.
func TestLayoutFails(t *testing.T) {
	format, broken := formats.Parquet(), errors.New("broken")
	for _, failsFor := range []bool{false, true} {
		f, layout := *format, format.Layout
		f.Layout = func(sample arrow.RecordBatch, isSmall bool) (func(io.Writer) (formats.Writer, error), error) {
			if isSmall == failsFor {
				return nil, broken
			}
			return layout(sample, isSmall)
		}
		allocated := memory.NewCheckedAllocator(memory.DefaultAllocator)
		r := numbers(allocated, 10, 10, nil)
		o := &bulk.SplitOptions{By: []string{"k"}, Dir: filepath.Join(t.TempDir(), "out")}
		o.UseFormats(formats.Set{&f})
		if _, err := bulk.Split(t.Context(), r, o); !errors.Is(err, broken) {
			t.Errorf("error %v, want %v", err, broken)
		}
		allocated.AssertSize(t, 0)
	}
}
