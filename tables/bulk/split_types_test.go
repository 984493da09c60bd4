package bulk_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
)

// TestSplitTypes checks that columns of rare types keep their values, and that Parquet gets plain types if it lacks a
// type.
func TestSplitTypes(t *testing.T) {
	text, numbers := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	for _, c := range []struct {
		t, inParquet arrow.DataType
		a, b         string // two values as JSON
	}{
		{arrow.BinaryTypes.StringView, text, `"a text that is longer than 12 bytes"`, `"b"`},
		{arrow.BinaryTypes.BinaryView, arrow.BinaryTypes.Binary, `"YWJj"`, `"YWJk"`},
		{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, text), text, `"x"`, `"y"`},
		{arrow.ListViewOf(numbers), arrow.ListOf(numbers), `[1,2]`, `[3]`},
		{arrow.LargeListViewOf(text), arrow.LargeListOf(text), `["x"]`, `["y","z"]`},
		{arrow.StructOf(arrow.Field{Name: "l", Type: arrow.ListViewOf(arrow.BinaryTypes.StringView), Nullable: true}), arrow.StructOf(arrow.Field{Name: "l", Type: arrow.ListOf(text), Nullable: true}), `{"l":["x"]}`, `{"l":null}`},
		{arrow.MapOf(text, arrow.ListViewOf(numbers)), arrow.MapOf(text, arrow.ListOf(numbers)), `[{"key":"x","value":[1]}]`, `[]`},
		{arrow.FixedSizeListOf(1, arrow.ListViewOf(numbers)), arrow.ListOf(arrow.ListOf(numbers)), `[[1]]`, `[[2,3]]`},
		{arrow.FixedWidthTypes.MonthInterval, nil, `{"months":1}`, `{"months":2}`},
		{arrow.FixedWidthTypes.DayTimeInterval, nil, `{"days":1,"milliseconds":2}`, `{"days":2,"milliseconds":1}`},
		{arrow.FixedWidthTypes.MonthDayNanoInterval, nil, `{"months":1,"days":2,"nanoseconds":3}`, `{"months":1,"days":2,"nanoseconds":4}`},
	} {
		columns := arrow.NewSchema([]arrow.Field{{Name: "k", Type: text}, {Name: "v", Type: c.t, Nullable: true}}, nil)
		first := rowsOf(t, columns, `[{"k":"x","v":`+c.a+`},{"k":"y","v":`+c.b+`},{"k":"x","v":null},{"k":"x","v":`+c.a+`}]`)
		second := rowsOf(t, columns, `[{"k":"x","v":`+c.b+`}]`)
		for _, format := range []string{"parquet", "arrow"} {
			r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{first, second, first}))(t)
			dir := filepath.Join(t.TempDir(), "out")
			_, err := bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{"k"}, Dir: dir, Format: format})
			if format == "parquet" && c.inParquet == nil {
				if err == nil || !strings.Contains(err.Error(), `column "v": Parquet has no type for `+c.t.String()) || !r.Next() || r.RecordBatch() != first {
					t.Errorf("%s: Split = %v, want an error that names the column, and no rows read", c.t, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s as %s: %v", c.t, format, err)
				continue
			}
			f, err := bulk.Open(t.Context(), filepath.Join(dir, "x."+format))
			got, schema := read(t, f, err)
			want := valuesOf(first, 0, 2, 3)
			want = append(append(want, valuesOf(second, 0)...), want...)
			wantType := map[string]arrow.DataType{"arrow": c.t, "parquet": c.inParquet}[format]
			if !slices.Equal(got, want) || schema.Field(1).Type.ID() != wantType.ID() {
				t.Errorf("%s as %s: the rows are %q of type %s, want %q of type %s", c.t, format, got, schema.Field(1).Type, want, wantType)
			}
		}
	}
}

func rowsOf(t *testing.T, columns *arrow.Schema, rows string) arrow.RecordBatch {
	t.Helper()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(rows))
	must.Do(t, err)
	return b
}

// valuesOf returns rows of a batch as read does.
func valuesOf(b arrow.RecordBatch, rows ...int) (texts []string) {
	for _, row := range rows {
		texts = append(texts, "k="+b.Column(0).ValueStr(row)+" v="+b.Column(1).ValueStr(row)+" ")
	}
	return texts
}

// TestSplitNestedMetadata splits a Parquet file with so many keys that rows go to temporary data. Its nested fields
// have metadata.
func TestSplitNestedMetadata(t *testing.T) {
	element := arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.PrimitiveTypes.Int64},
		{Name: "v", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.LargeListOfField(element))},
	}, nil)
	var rows strings.Builder
	for i := range 500 {
		fmt.Fprintf(&rows, `%c{"k":%d,"v":[{"key":"x","value":[%d]}]}`, "[,"[min(i, 1)], i, i)
	}
	r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{rowsOf(t, columns, rows.String()+"]")}))(t)
	path := filepath.Join(t.TempDir(), "in.parquet")
	must.Get(parquetfile.Write(t.Context(), path, false, r))(t)
	file := must.Get(bulk.Open(t.Context(), path))(t)
	defer file.Release()
	result, err := bulk.Split(t.Context(), file, &bulk.SplitOptions{By: []string{"k"}, Dir: filepath.Join(t.TempDir(), "out"), Format: "arrow"})
	if err != nil || result.Files != 500 {
		t.Errorf("Split = %v, %v, want 500 files", result, err)
	}
}

// TestSortNestedMetadata checks that rows of large lists return from temporary files with the types of the Parquet
// file.
func TestSortNestedMetadata(t *testing.T) {
	item := arrow.StructOf(arrow.Field{Name: "n", Type: arrow.BinaryTypes.LargeString, Nullable: true})
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.PrimitiveTypes.Int64},
		{Name: "v", Type: arrow.LargeListOfField(arrow.Field{Name: "element", Type: item, Nullable: true})},
		{Name: "t", Type: arrow.BinaryTypes.String},
	}, nil)
	const batches, size = 40, 4 << 20 // more than half of the memory
	path := filepath.Join(t.TempDir(), "in.parquet")
	must.Get(parquetfile.Write(t.Context(), path, false, array.ReaderFromIter(columns, func(yield func(arrow.RecordBatch, error) bool) {
		for i := range batches {
			if !yield(rowsOf(t, columns, fmt.Sprintf(`[{"k":%d,"v":[{"n":"x"}],"t":"%s"}]`, -i, strings.Repeat("x", size))), nil) {
				return
			}
		}
	})))(t)
	file := must.Get(bulk.Open(t.Context(), path))(t)
	defer file.Release()
	sorted := must.Get(bulk.Sort(t.Context(), file, &bulk.SortOptions{By: []string{"k"}, Memory: 64 << 20}))(t)
	defer sorted.Release()
	rows := int64(0)
	for sorted.Next() {
		rows += sorted.RecordBatch().NumRows()
	}
	if rows != batches || sorted.Err() != nil {
		t.Errorf("%d rows, %v, want %d", rows, sorted.Err(), batches)
	}
}
