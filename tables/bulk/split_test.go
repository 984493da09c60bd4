package bulk_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

var unit = arrow.NewMetadata([]string{"unit"}, []string{"m"})

var testColumns = arrow.NewSchema([]arrow.Field{
	{Name: "key", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: unit},
	{Name: "n", Type: arrow.PrimitiveTypes.Uint64},
	{Name: "word", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "list", Type: arrow.ListOfField(arrow.Field{Name: "element", Type: arrow.PrimitiveTypes.Float64, Nullable: true}), Nullable: true},
	{Name: "price", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}, Nullable: true},
	{Name: "at", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "Europe/Berlin"}, Nullable: true},
	{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Float32, Nullable: true, Metadata: unit}), Nullable: true},
}, new(arrow.NewMetadata([]string{"source"}, []string{"a test"})))

// testRows returns a reader of rows that are numbered in the column n. Their keys are among keys texts, and null.
func testRows(t *testing.T, rnd *rand.Rand, rows, keys int) array.RecordReader {
	t.Helper()
	var batches []arrow.RecordBatch
	for n := 0; n < rows; {
		var text strings.Builder
		text.WriteByte('[')
		for size := min(rows-n, 1+rnd.IntN(300)); size > 0; size-- {
			key := fmt.Sprintf(`"key %d"`, rnd.IntN(keys))
			if rnd.IntN(20) == 0 {
				key = []string{"null", `""`, `"a/b%"`}[rnd.IntN(3)]
			}
			fmt.Fprintf(&text, `{"key":%s,"n":%d,"word":"w%d","list":[%d,null],"price":"%d.25","at":"2026-01-02T03:04:05.%09dZ","s":{"x":%d}}`, key, n, rnd.IntN(50), n, n, n, n)
			if n++; size > 1 {
				text.WriteByte(',')
			}
		}
		batches = append(batches, tabletest.ParseRows(t, testColumns, text.String()+"]"))
	}
	return must.Get(array.NewRecordReader(testColumns, batches))(t)
}

// read returns the rows of a file as JSON, and its schema.
func read(t *testing.T, r array.RecordReader, err error) (rows []string, columns *arrow.Schema) {
	t.Helper()
	must.Do(t, err)
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			var row strings.Builder
			for k, c := range r.RecordBatch().Columns() {
				fmt.Fprintf(&row, "%s=%s ", r.RecordBatch().ColumnName(k), c.ValueStr(i))
			}
			rows = append(rows, row.String())
		}
	}
	must.Do(t, r.Err())
	return rows, r.Schema()
}

// sameTypes also compares the metadata of nested fields.
func sameTypes(a, b *arrow.Schema) bool {
	return slices.EqualFunc(a.Fields(), b.Fields(), func(f, g arrow.Field) bool {
		return f.Name == g.Name && f.Nullable == g.Nullable && f.Metadata.Equal(g.Metadata) && arrow.TypeEqual(f.Type, g.Type, arrow.CheckMetadata())
	})
}

// files returns the paths of the files in dir, relative to it.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for _, path := range tabletest.Paths(t, dir, "") {
		paths = append(paths, must.Get(filepath.Rel(dir, path))(t))
	}
	return paths
}

// TestSplit checks that each row is in the file of its key, in order, with its type: if files are written in several
// parts, if keys share buckets, and if buckets exceed the memory.
func TestSplit(t *testing.T) {
	defer func(min int64) { *bulk.MinMemory = min }(*bulk.MinMemory)
	*bulk.MinMemory = 1
	for _, format := range []string{"parquet", "arrow"} {
		for seed, c := range []struct {
			keys   int
			memory int64
		}{{5, 0}, {3000, 0}, {40, 64 << 10}} {
			seed, keys := uint64(seed), c.keys
			want := map[string][]string{}
			all, _ := read(t, testRows(t, rand.New(rand.NewPCG(seed, 0)), 5000, keys), nil)
			for _, row := range all {
				key, _, _ := strings.Cut(row, " n=")
				want[key] = append(want[key], row)
			}
			dir := filepath.Join(t.TempDir(), "new", "out")
			rows := testRows(t, rand.New(rand.NewPCG(seed, 0)), 5000, keys)
			result, err := bulk.Split(t.Context(), rows, &bulk.SplitOptions{By: []string{"key"}, Dir: dir, Format: format, Memory: c.memory})
			if err != nil || result != (bulk.SplitResult{Rows: 5000, Files: len(want)}) {
				t.Fatalf("Split into %d keys: %v, %v; want %d files", keys, result, err, len(want))
			}
			for _, name := range files(t, dir) {
				r, err := bulk.Open(t.Context(), filepath.Join(dir, name))
				got, columns := read(t, r, err)
				key, _, _ := strings.Cut(got[0], " n=")
				if !slices.Equal(got, want[key]) || !sameTypes(columns, testColumns) || columns.Metadata().ToMap()["source"] != "a test" {
					t.Fatalf("file %s has %d rows with %v, want %d with %v", name, len(got), columns, len(want[key]), testColumns)
				}
				wantName := map[string]string{"key=": "%", "key=" + array.NullValueStr: "%null", "key=a/b%": "a%2Fb%25"}[key]
				if wantName = cmp.Or(wantName, strings.TrimPrefix(key, "key=")) + "." + format; name != wantName {
					t.Fatalf("the file of %q is named %q, want %q", key, name, wantName)
				}
				delete(want, key)
			}
			if len(want) > 0 {
				t.Fatalf("no files for %v", want)
			}
		}
	}
}

// TestSplitFails checks that a failed Split leaves the directory as it was.
func TestSplitFails(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	kept := filepath.Join(dir, "kept")
	must.Do(t, os.WriteFile(kept, nil, 0o666))
	broken := errors.New("broken")
	failing := func() array.RecordReader {
		good := testRows(t, rand.New(rand.NewPCG(1, 0)), 100, 5)
		return array.ReaderFromIter(testColumns, func(yield func(arrow.RecordBatch, error) bool) {
			good.Next()
			if good.RecordBatch().Retain(); yield(good.RecordBatch(), nil) {
				yield(nil, broken)
			}
		})
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	rows := func() array.RecordReader { return testRows(t, rand.New(rand.NewPCG(1, 0)), 100, 5) }
	for name, c := range map[string]struct {
		ctx  context.Context
		rows array.RecordReader
		o    bulk.SplitOptions
		want error
	}{
		"not empty":   {t.Context(), rows(), bulk.SplitOptions{By: []string{"key"}, Dir: dir}, bulk.ErrNotEmpty},
		"broken":      {t.Context(), failing(), bulk.SplitOptions{By: []string{"key"}, Dir: dir, Force: true}, broken},
		"new":         {t.Context(), failing(), bulk.SplitOptions{By: []string{"key"}, Dir: filepath.Join(dir, "a", "b")}, broken},
		"canceled":    {canceled, rows(), bulk.SplitOptions{By: []string{"key"}, Dir: dir, Force: true}, context.Canceled},
		"no column":   {t.Context(), rows(), bulk.SplitOptions{By: []string{"kay"}, Dir: dir, Force: true}, nil},
		"format":      {t.Context(), rows(), bulk.SplitOptions{By: []string{"key"}, Dir: dir, Force: true, Format: "orc"}, nil},
		"few columns": {t.Context(), rows(), bulk.SplitOptions{By: []string{"key", "n", "word", "list", "price", "at", "s"}, Dir: dir, Force: true, Hive: true}, nil},
	} {
		_, err := bulk.Split(c.ctx, c.rows, &c.o)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: Split = %v, want %v", name, err, c.want)
		}
		if left := append(files(t, dir), files(t, tmp)...); !slices.Equal(left, []string{"kept"}) {
			t.Errorf("%s: the files %v are left, want only kept", name, left)
		}
	}
}

// TestSplitColumns checks columns of the same name, and dictionaries of types that the library's builders do not
// support, in files that hold all rows of a key and in those that go through the log store.
func TestSplitColumns(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{
		{Name: "k", Type: arrow.PrimitiveTypes.Int64},
		{Name: "v", Type: arrow.PrimitiveTypes.Int64},
		{Name: "v", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.LargeString}},
		{Name: "v", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	b := tabletest.ParseRows(t, arrow.NewSchema([]arrow.Field{columns.Field(0), columns.Field(1), {Name: "w", Type: arrow.BinaryTypes.LargeString}, {Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil),
		`[{"k":1,"v":2,"w":"a","x":3},{"k":2,"v":4,"w":null,"x":5},{"k":1,"v":6,"w":"a","x":7}]`)
	indices, _, err := array.FromJSON(memory.DefaultAllocator, arrow.PrimitiveTypes.Int8, strings.NewReader("[0,null,0]"))
	must.Do(t, err)
	arrays := b.Columns()
	arrays[2] = array.NewDictionaryArray(columns.Field(2).Type, indices, array.NewSlice(arrays[2], 0, 1))
	b = array.NewRecordBatch(columns, arrays, b.NumRows())
	for _, hive := range []bool{false, true} {
		r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{b, b}))(t)
		dir := filepath.Join(t.TempDir(), "out")
		must.Get(bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{"k"}, Dir: dir, Format: "arrow", Hive: hive}))(t)
		name, want := "1.arrow", []string{"k=1 v=2 v=a v=3 ", "k=1 v=6 v=a v=7 "}
		if hive {
			name, want = "k=1/data.arrow", []string{"v=2 v=a v=3 ", "v=6 v=a v=7 "}
		}
		f, err := bulk.Open(t.Context(), filepath.Join(dir, name))
		if got, _ := read(t, f, err); !slices.Equal(got, append(want, want...)) {
			t.Errorf("hive %t: the rows are %q, want twice %q", hive, got, want)
		}
	}
}

// TestNames checks names that other programs could misread: readers of directories omit files whose names begin with
// "." or "_", DuckDB cannot read directories with two equal signs in their names, and reads NULL as null.
func TestNames(t *testing.T) {
	split := func(column, other string, hive bool, values ...string) (string, error) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: column, Type: arrow.BinaryTypes.String}, {Name: other, Type: arrow.BinaryTypes.String}}, nil))
		b.Field(0).(*array.StringBuilder).AppendValues(values, nil)
		b.Field(1).(*array.StringBuilder).AppendValues(values, nil)
		r, err := array.NewRecordReader(b.Schema(), []arrow.RecordBatch{b.NewRecordBatch()})
		must.Do(t, err)
		dir := filepath.Join(t.TempDir(), "out")
		_, err = bulk.Split(t.Context(), r, &bulk.SplitOptions{By: []string{column}, Dir: dir, Hive: hive})
		return strings.NewReplacer(".parquet", "", "/data", "").Replace(strings.Join(files(t, dir), " ")), err
	}
	values := []string{".", ".x", "_x", "a_.b", "x=y:z", "NULL", "nuLL"}
	for hive, want := range map[bool]string{
		false: "%2E %2Ex %5Fx NULL a_.b nuLL x%3Dy%3Az",
		true:  "é k=%4EULL é k=%6EuLL é k=. é k=.x é k=_x é k=a_.b é k=x%3Dy%3Az",
	} {
		if got, err := split("é k", "n", hive, values...); err != nil || got != want {
			t.Errorf("hive %t: the files are %q, want %q; error: %v", hive, got, want, err)
		}
	}
	for column, want := range map[string]string{
		"N": `columns "N" and "n"`, "": `column "": some programs`, "a=b": `column "a=b": some programs`, "_k": `column "_k": some programs`, "a%41": "some programs", "a\nb": "some programs",
		"k": `column "k": pyarrow and polars read the value "__HIVE_DEFAULT_PARTITION__" as null`,
	} {
		must.Fail(t, must.Err(split(column, "n", true, "a", "__HIVE_DEFAULT_PARTITION__")), want, "hive, column %q", column)
		if _, err := split(column, "n", false, "a", "__HIVE_DEFAULT_PARTITION__"); err != nil {
			t.Errorf("column %q: %v", column, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	must.Get(bulk.Split(t.Context(), testRows(t, rand.New(rand.NewPCG(1, 0)), 300, 2), &bulk.SplitOptions{By: []string{"key", "word"}, Dir: dir}))(t)
	if got := files(t, dir); !slices.Contains(got, "key 0%2Cw1.parquet") {
		t.Errorf("no file key 0%%2Cw1.parquet in %q", got)
	}
}

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
		first := tabletest.ParseRows(t, columns, `[{"k":"x","v":`+c.a+`},{"k":"y","v":`+c.b+`},{"k":"x","v":null},{"k":"x","v":`+c.a+`}]`)
		second := tabletest.ParseRows(t, columns, `[{"k":"x","v":`+c.b+`}]`)
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
	r := must.Get(array.NewRecordReader(columns, []arrow.RecordBatch{tabletest.ParseRows(t, columns, rows.String()+"]")}))(t)
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
			if !yield(tabletest.ParseRows(t, columns, fmt.Sprintf(`[{"k":%d,"v":[{"n":"x"}],"t":"%s"}]`, -i, strings.Repeat("x", size))), nil) {
				return
			}
		}
	})))(t)
	file := must.Get(bulk.Open(t.Context(), path))(t)
	defer file.Release()
	sorted := must.Get(bulk.Sort(t.Context(), file, &bulk.SortOptions{By: []string{"k"}, Memory: 64 << 20}))(t)
	if rows, err := tabletest.CountRows(sorted); rows != batches || err != nil {
		t.Errorf("%d rows, %v, want %d", rows, err, batches)
	}
}
