package schema_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/tablestest"
)

// read returns the type and the values of a table's first column.
func read(t *testing.T, b *tables.Bucket, name string, o *tables.ScanOptions) string {
	t.Helper()
	r := must.Get(b.Table(name).Scan(t.Context(), o))(t)
	defer r.Release()
	out := []string{r.Schema().Field(0).Type.String()}
	for r.Next() {
		c := r.RecordBatch().Column(0)
		for i := range c.Len() {
			if c.IsNull(i) {
				out = append(out, "(null)")
			} else {
				out = append(out, c.ValueStr(i))
			}
		}
	}
	must.Do(t, r.Err())
	return strings.Join(out, " ")
}

// writeTable writes a table in a format. For Parquet and Arrow, it also puts the file into another table, and
// compares the two tables.
func writeTable(t *testing.T, b *tables.Bucket, name string, format *formats.Format) {
	t.Helper()
	table := b.Table(name)
	r := must.Get(table.Scan(t.Context(), nil))(t)
	defer r.Release()
	f := must.Get(os.Create(filepath.Join(t.TempDir(), "x")))(t)
	defer f.Close()
	w, err := format.Write(f, r.Schema(), formats.WriteOptions{Stream: true})
	for err == nil && r.Next() {
		err = w.Write(r.RecordBatch())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil || r.Err() != nil {
		t.Fatalf("write %s: %v, %v", format.Name, err, r.Err())
	}
	if format.Name != "parquet" && format.Name != "arrow" {
		return
	}
	must.Get(f.Seek(0, io.SeekStart))(t)
	reread := must.Get((&formats.Input{Name: format.Name, File: f, Format: format}).Read(t.Context()))(t)
	defer reread.Release()
	if _, err := b.Table(name+" again").Put(t.Context(), reread, tables.PutReplace, nil); err != nil {
		t.Fatalf("put the rows of the %s file: %v", format.Name, err)
	}
	want, got := read(t, b, name, nil), read(t, b, name+" again", nil)
	if strings.Count(got, "(null)") != strings.Count(want, "(null)") || format.Name == "arrow" && got != want {
		t.Errorf("the table from the %s file contains %s, want %s", format.Name, got, want)
	}
}

// TestTypesInStore checks that rows of every type can be committed directly, and that they can be appended to the tail
// (rows that are not yet in data files) and folded into files.
func TestTypesInStore(t *testing.T) {
	ctx := t.Context()
	for _, noTail := range []bool{true, false} {
		s := tablestest.Open(t, &tables.Options{NoTail: noTail, FoldAge: -1})
		bucket := "types"
		b := s.Bucket(bucket)
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/NoTail=%v", c.Name, noTail), func(t *testing.T) {
				a, _, err := array.FromJSON(memory.DefaultAllocator, c.Put, strings.NewReader(c.JSON))
				must.Do(t, err)
				note := arrow.NewMetadata([]string{"unit"}, []string{"m"})
				schema := arrow.NewSchema([]arrow.Field{{Name: "a.b c", Type: c.Put, Nullable: true, Metadata: note}}, &note)
				batch := array.NewRecordBatch(schema, []arrow.Array{a}, 3)
				want := []string{c.Put.String()}
				if c.ReadType != "" {
					want[0] = c.ReadType
				}
				for range 2 {
					r := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{batch}))(t)
					must.Get(b.Table(c.Name).Put(ctx, r, tables.PutAppend, nil))(t)
					for i := range 3 {
						if a.IsNull(i) {
							want = append(want, "(null)")
						} else {
							want = append(want, a.ValueStr(i))
						}
					}
				}
				all := strings.Join(want, " ")
				if got := read(t, b, c.Name, nil); got != all {
					t.Errorf("reading the table returned %s, want %s", got, all)
				}
				must.Get(s.Fold(ctx, &tables.MaintainOptions{Buckets: tables.Buckets{bucket}, Tables: []string{c.Name}}))(t)
				if got := read(t, b, c.Name, nil); got != all {
					t.Errorf("after Fold: read %s, want %s", got, all)
				}
				nulls := must.Get(filter.Parse(`"a.b c" is null`))(t)
				if got := read(t, b, c.Name, &tables.ScanOptions{Filter: nulls}); strings.Count(got, "(null)") != 2*a.NullN() {
					t.Errorf("the filter for nulls returned %s, want %d nulls", got, 2*a.NullN())
				}
				for _, format := range []*formats.Format{formats.CSV(), formats.JSONL(), formats.Parquet(), formats.Arrow(), formats.Table()} {
					writeTable(t, b, c.Name, format)
				}
				gotSchema, err := b.Table(c.Name).Schema(ctx)
				if err != nil || !gotSchema.Field(0).Metadata.Equal(note) || !gotSchema.Metadata().Equal(note) {
					t.Errorf("Schema = %v, %v, want the metadata of the put", gotSchema, err)
				}
			})
		}
		copyAndBackup(t, s, b)
	}
}

// copyAndBackup copies all tables of a bucket, backs them up and restores them, and checks that the copies equal the
// originals.
func copyAndBackup(t *testing.T, s *tables.Store, b *tables.Bucket) {
	var stores [3]*tables.Store
	for i := range stores {
		stores[i] = tablestest.Open(t, nil)
	}
	copied, backup, restored := stores[0], stores[1], stores[2]
	_, err := s.CopyTo(t.Context(), copied)
	if err == nil {
		_, err = s.Backup(t.Context(), backup, "x")
	}
	if err == nil {
		_, err = restored.RestoreFrom(t.Context(), backup, "x")
	}
	must.Do(t, err)
	for info, err := range b.Tables(t.Context(), nil) {
		must.Do(t, err)
		for _, o := range []*tables.ScanOptions{nil, {Dictionaries: true}} {
			want := read(t, b, info.Name, o)
			if o != nil && info.Name == "dictionary" && !strings.HasPrefix(want, "dictionary<") {
				t.Errorf("with Dictionaries, the values are %s, want a dictionary", want)
			}
			for _, store := range []*tables.Store{copied, restored} {
				if got := read(t, store.Bucket(b.Name()), info.Name, o); got != want {
					t.Errorf("the copy of %s contains %s, want %s", info.Name, got, want)
				}
			}
		}
	}
	for _, store := range append(stores[:], s) {
		r, err := store.Verify(t.Context(), &tables.VerifyOptions{Report: func(f tables.Finding) { t.Errorf("Verify found %+v", f) }})
		if err != nil || r.Tables < 20 {
			t.Errorf("Verify = %+v, %v, want at least 20 tables", r, err)
		}
	}
}

// TestRequiredFields checks that required nested fields stay required: items of maps, which iceberg-go's
// writer does not support, and fixed-size lists within null structs.
func TestRequiredFields(t *testing.T) {
	s := tablestest.Open(t, &tables.Options{NoTail: true})
	items := arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint16)
	items.SetItemNullable(false)
	pair := arrow.StructOf(arrow.Field{Name: "l", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32)})
	for i, c := range []struct {
		typ    arrow.DataType
		values []string
	}{
		{items, []string{`[{"key":"a","value":1}]`, "null"}},
		{pair, []string{`{"l":[1,2]}`, "null"}},
		{arrow.StructOf(arrow.Field{Name: "s", Type: pair}), []string{`{"s":{"l":[1,2]}}`, "null"}},
	} {
		name, json, want := fmt.Sprint(i), "", c.typ.String()
		for _, v := range c.values {
			json += `{"x":` + v + "}\n"
			want += " " + strings.Replace(v, "null", "(null)", 1)
		}
		r := array.NewJSONReader(strings.NewReader(json), arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.typ, Nullable: true}}, nil))
		must.Get(s.Bucket("").Table(name).Put(t.Context(), r, tables.PutError, nil))(t)
		if got := read(t, s.Bucket(""), name, nil); got != want {
			t.Errorf("reading the table returned %s, want %s", got, want)
		}
	}
}

// TestFilterOfNanoseconds checks that times of day in nanoseconds, which are stored as numbers, can be
// compared with times.
func TestFilterOfNanoseconds(t *testing.T) {
	s := tablestest.Open(t, nil)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.FixedWidthTypes.Time64ns, Nullable: true}}, nil)
	r := array.NewJSONReader(strings.NewReader(`{"x":"00:00:00.000000001"} {"x":"02:00:00"} {"x":null}`), schema)
	must.Get(s.Bucket("").Table("x").Put(t.Context(), r, tables.PutError, nil))(t)
	for text, want := range map[string]string{"x > '01:00'": " 02:00:00.000000000", "x = '00:00:00.000000001'": " 00:00:00.000000001", "x is null": " (null)"} {
		e := must.Get(filter.Parse(text))(t)
		if got := read(t, s.Bucket(""), "x", &tables.ScanOptions{Filter: e}); got != "time64[ns]"+want {
			t.Errorf("reading rows where %s returned %s, want%s", text, got, want)
		}
	}
}

// TestFilterOfBoolsAndZeros checks that filters order false before true, and that 0 and -0 are equal, for rows in
// files.
func TestFilterOfBoolsAndZeros(t *testing.T) {
	s := tablestest.Open(t, &tables.Options{NoTail: true})
	schema := tabletest.ParseColumns(t, "id int64; b bool; x float64; f float32")
	r := array.NewJSONReader(strings.NewReader(`{"id":0,"b":false,"x":-0.0,"f":-0.0} {"id":1,"b":true,"x":0,"f":0} {"id":2,"x":1,"f":1}`), schema)
	must.Get(s.Bucket("").Table("x").Put(t.Context(), r, tables.PutError, nil))(t)
	for text, want := range map[string]string{
		"b > false": " 1", "b >= false": " 0 1", "b < true": " 0", "not b <= false": " 1", "b in (true)": " 1", "b in (true, false)": " 0 1", "b not in (true)": " 0", "b != true": " 0",
		"x in (0, 5)": " 0 1", "x not in (0)": " 2", "f in (0)": " 0 1", "f not in (-0.0, 7)": " 2", "x = 0": " 0 1", "x < 0": "",
	} {
		e := must.Get(filter.Parse(text))(t)
		if got := read(t, s.Bucket(""), "x", &tables.ScanOptions{Filter: e}); got != "int64"+want {
			t.Errorf("reading rows where %s returned %s, want%s", text, got, want)
		}
	}
}

// TestTextsThatAreNotUTF8 checks that a put is refused as a whole if a text anywhere in it is not UTF-8,
// because SQL cannot read such texts.
func TestTextsThatAreNotUTF8(t *testing.T) {
	s := tablestest.Open(t, nil)
	for _, typ := range []arrow.DataType{
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.StringView, arrow.ListOf(arrow.BinaryTypes.String),
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}), arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int8),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
	} {
		b := array.NewBuilder(memory.DefaultAllocator, typ)
		b.AppendNull()
		const bad = "caf\xe9"
		switch b := b.(type) {
		case array.StringLikeBuilder:
			b.Append(bad)
		case *array.StructBuilder:
			b.Append(true)
			b.FieldBuilder(0).(*array.StringBuilder).Append(bad)
		case *array.MapBuilder:
			b.Append(true)
			b.KeyBuilder().(*array.StringBuilder).Append(bad)
			b.ItemBuilder().AppendNull()
		case *array.ListBuilder:
			b.Append(true)
			b.ValueBuilder().(*array.StringBuilder).Append(bad)
		case *array.BinaryDictionaryBuilder:
			must.Do(t, b.AppendString(bad))
		}
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: typ, Nullable: true}}, nil)
		r := must.Get(array.NewRecordReader(schema, []arrow.RecordBatch{array.NewRecordBatch(schema, []arrow.Array{b.NewArray()}, 2)}))(t)
		if _, err := s.Bucket("").Table("x").Put(t.Context(), r, tables.PutError, nil); err == nil || !strings.Contains(err.Error(), `column "x"`) || !strings.Contains(err.Error(), "is not UTF-8") {
			t.Errorf("Put of a text in %s that is not UTF-8 = %v, want an error", typ, err)
		}
		if _, err := s.Bucket("").Table("x").Info(t.Context()); err == nil {
			t.Fatalf("%s: the refused put created a table", typ)
		}
	}
}

// TestDate64FromParquet checks that a date64 column that was exported to Parquet can be appended to its table.
func TestDate64FromParquet(t *testing.T) {
	a, _, err := array.FromJSON(memory.DefaultAllocator, arrow.FixedWidthTypes.Date64, strings.NewReader(`["2026-01-31",null]`))
	must.Do(t, err)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.FixedWidthTypes.Date64, Nullable: true}}, nil)
	var b bytes.Buffer
	w, err := formats.Parquet().Write(&b, schema, formats.WriteOptions{})
	if err == nil {
		err = w.Write(array.NewRecordBatch(schema, []arrow.Array{a}, 2))
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	must.Do(t, os.WriteFile(path, b.Bytes(), 0o600))
	s := tablestest.Open(t, nil)
	first, err := array.NewRecordReader(schema, []arrow.RecordBatch{array.NewRecordBatch(schema, []arrow.Array{a}, 2)})
	if err == nil {
		_, err = s.Bucket("").Table("x").Put(t.Context(), first, tables.PutError, nil)
	}
	must.Do(t, err)
	f := must.Get(os.Open(path))(t)
	defer f.Close()
	r, err := (&formats.Input{Name: path, File: f, Format: formats.Parquet()}).Read(t.Context())
	if err == nil {
		_, err = s.Bucket("").Table("x").Put(t.Context(), r, tables.PutAppend, nil)
	}
	if got := read(t, s.Bucket(""), "x", nil); err != nil || got != "date64 2026-01-31 (null) 2026-01-31 (null)" {
		t.Errorf("after appending the Parquet file, the table contains %s, %v", got, err)
	}
}

// TestFloat16 checks that float16 values, including the smallest, are converted exactly, and that other numbers
// are rounded, not truncated.
func TestFloat16(t *testing.T) {
	for bits := range uint16(math.MaxUint16) {
		n := float16.FromBits(bits)
		f := float64(arrowtype.FromFloat16(n))
		if got := arrowtype.ToFloat16(f); got != n && !math.IsNaN(f) {
			t.Fatalf("float16 bits %x are %v, but ToFloat16 of that returns bits %x", bits, f, got.Uint16())
		}
	}
	for f, want := range map[float64]float64{2049: 2048, 2051: 2052, 65519: 65504, 65520: math.Inf(1), 1e-30: 0, 1.0 / (1 << 25): 0, 1.5 / (1 << 24): 2.0 / (1 << 24)} {
		if got := float64(arrowtype.FromFloat16(arrowtype.ToFloat16(f))); got != want {
			t.Errorf("ToFloat16(%v) = %v, want %v", f, got, want)
		}
	}
	if _, err := schema.ConvertArray(floats(70000), arrow.FixedWidthTypes.Float16); err == nil {
		t.Error("ConvertArray converted 70000 to float16")
	}
}

func floats(f float32) arrow.Array {
	b := array.NewFloat32Builder(memory.DefaultAllocator)
	b.Append(f)
	return b.NewArray()
}

func TestExactFloat(t *testing.T) {
	for n, exact := range map[int64]bool{
		0: true, 1 << 53: true, 1<<53 + 1: false, 1<<53 + 2: true, -1<<53 - 1: false, 1 << 62: true,
		math.MinInt64: true, math.MinInt64 + 1: false, math.MaxInt64: false,
	} {
		b := array.NewInt64Builder(memory.DefaultAllocator)
		b.AppendNull()
		b.Append(n)
		got, err := schema.ConvertArray(b.NewArray(), arrow.PrimitiveTypes.Float64)
		switch {
		case exact != (err == nil):
			t.Errorf("ConvertArray(%d) = %v, want an error only if the result is inexact", n, err)
		case exact && (got.IsValid(0) || got.(*array.Float64).Value(1) != float64(n)):
			t.Errorf("ConvertArray(%d) = %v, want a null and the same number", n, got)
		}
	}
}
