package tabletest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// ParseColumns parses a schema such as "a int16; b utf8".
func ParseColumns(t testing.TB, text string) *arrow.Schema {
	t.Helper()
	var fields []arrow.Field
	for part := range strings.SplitSeq(text, "; ") {
		name, typeName, _ := strings.Cut(part, " ")
		typ, err := schema.Parse(typeName)
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, arrow.Field{Name: name, Type: typ, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// ParseRows returns a batch of the rows in text, a JSON array of objects.
func ParseRows(t testing.TB, columns *arrow.Schema, text string) arrow.RecordBatch {
	t.Helper()
	b, _, err := array.RecordFromJSON(memory.DefaultAllocator, columns, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func JSONRows(t testing.TB, columns, rows string) array.RecordReader {
	t.Helper()
	return OneBatch(ParseRows(t, ParseColumns(t, columns), "["+rows+"]"))
}

// TableText returns the columns and rows of a table as text.
func TableText(t testing.TB, b *tables.Bucket, name string, o *tables.ScanOptions, at ...tables.At) string {
	t.Helper()
	table, err := b.Table(name).At(t.Context(), at...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Scan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return ReaderText(t, r)
}

// ReaderText returns the columns and rows of r as text, and releases r.
func ReaderText(t testing.TB, r array.RecordReader) string {
	t.Helper()
	defer r.Release()
	var parts []string
	for _, f := range r.Schema().Fields() {
		parts = append(parts, f.Name+" "+f.Type.String())
	}
	out := strings.Join(parts, "; ")
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			parts = nil
			for _, c := range r.RecordBatch().Columns() {
				parts = append(parts, c.ValueStr(i))
			}
			out += " | " + strings.Join(parts, ",")
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

func WantText(t testing.TB, b *tables.Bucket, name, want string, at ...tables.At) {
	t.Helper()
	if got := TableText(t, b, name, nil, at...); got != want {
		t.Fatalf("table %q is\n%s\nwant\n%s", name, got, want)
	}
}

func ParseFilter(t testing.TB, text string) *filter.Expr {
	t.Helper()
	if text == "" {
		return nil
	}
	e, err := filter.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func DeleteRows(t testing.TB, b *tables.Bucket, name, cond string) tables.RewriteResult {
	t.Helper()
	result, err := b.Table(name).DeleteRows(t.Context(), ParseFilter(t, cond))
	if err != nil {
		t.Fatalf("DeleteRows(%s): %v", cond, err)
	}
	return result
}

func ColumnTexts(t testing.TB, b *tables.Bucket, name, column string) (all []string) {
	t.Helper()
	table := b.Table(name)
	r, err := table.Scan(t.Context(), &tables.ScanOptions{Columns: []string{column}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			all = append(all, r.RecordBatch().Column(0).ValueStr(i))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
}

func Where(t testing.TB, text string, columns ...string) *tables.ScanOptions {
	return &tables.ScanOptions{Filter: ParseFilter(t, text), Columns: columns}
}

func Nullable(name string, t arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: t, Nullable: true}
}

// CountRows reads and releases r, and returns the number of its rows. After an error, it also returns the number of rows
// before the error.
func CountRows(r array.RecordReader) (rows int64, err error) {
	defer r.Release()
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	return rows, r.Err()
}

// CheckSet checks that all fields of options are set, except those with the given names. A test of all fields calls it, so
// that it fails if a field is added.
func CheckSet(t testing.TB, options any, except ...string) {
	t.Helper()
	v := reflect.ValueOf(options)
	for i, f := range reflect.VisibleFields(v.Type()) {
		if v.Field(i).IsZero() != slices.Contains(except, f.Name) {
			t.Errorf("the test does not say what happens with field %s of %T", f.Name, options)
		}
	}
}
