package tables_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// invalidColumns returns columns that no table can have. Each key is a part of the error that its columns cause.
func invalidColumns() map[string][]arrow.Field {
	field := func(name string) arrow.Field { return tabletest.Nullable(name, arrow.PrimitiveTypes.Int64) }
	column := tabletest.Nullable
	emptyField := arrow.StructOf(field("x"), field(""))
	return map[string][]arrow.Field{
		`column "" has type int64: its name is empty`:                                  {field("n"), field("")},
		`its name contains a zero byte`:                                                {field("n"), field("a\x00b")},
		`its name is not valid UTF-8`:                                                  {field("a\xffb")},
		`two columns have this name`:                                                   {field("n"), field("n")},
		`column "s" has type struct<x: int64 nullable, : int64 nullable>: its field's`: {column("s", emptyField)},
		`column "l"`: {column("l", arrow.ListOf(emptyField))},
		`column "m"`: {column("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.ListOf(emptyField)))},
		`its field's name "a\x00" contains a zero byte`: {column("s", arrow.StructOf(field("a\x00")))},
		`its field's name "\xff" is not valid UTF-8`:    {column("s", arrow.StructOf(field("\xff")))},
		`the column has two fields named "x"`:           {column("s", arrow.StructOf(field("x"), field("x")))},
		`Iceberg would call two fields "s.x"`:           {column("s", arrow.StructOf(field("x"))), field("s.x")},
		`Iceberg would call two fields "l.element"`:     {field("l.element"), column("l", arrow.ListOf(arrow.PrimitiveTypes.Int64))},
		`column "_row_id"`:                              {field("_row_id")},
	}
}

// TestInvalidColumnNames checks that every operation rejects columns with invalid names, with an error that names the
// column, before it writes anything.
func TestInvalidColumnNames(t *testing.T) {
	t.Parallel()
	for want, fields := range invalidColumns() {
		schema := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range fields {
			b.Field(i).AppendNull()
		}
		rows := func() array.RecordReader { return tabletest.OneBatch(b.NewRecordBatch()) }
		for _, noTail := range []bool{true, false} {
			ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: noTail, FoldAge: -1})
			bucket := s.Bucket("b")
			wantRejected := func(operation string, err error) {
				t.Helper()
				if schemaErr := (*tables.SchemaError)(nil); !errors.As(err, &schemaErr) || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: error = %v, want a SchemaError that contains %q", operation, err, want)
				}
			}
			countFiles := func() (n int) {
				t.Helper()
				must.Do(t, filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(_ string, d fs.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						n++
					}
					return err
				}))
				return n
			}
			for _, m := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
				_, err := bucket.Table("t").Put(ctx, rows(), m, nil)
				wantRejected("put", err)
			}
			wantRejected("txn", s.Update(ctx, func(x *tables.Txn) error { return x.Put("b", "t", rows(), tables.PutAppend, nil) }))
			if n := countFiles(); n > 0 {
				t.Errorf("rejected puts wrote %d files, want none", n)
			}
			if exists, err := s.Bucket("b").Exists(ctx); exists || err != nil {
				t.Errorf("Exists = %+v, %v; want false", exists, err)
			}
			tabletest.Put(t, bucket, "existing", tables.PutReplace, 1)
			before := countFiles()
			_, err := bucket.Table("existing").Put(ctx, rows(), tables.PutReplace, nil)
			wantRejected("replace", err)
			_, err = bucket.Table("existing").Migrate(ctx, 1, func(arrow.RecordBatch) (arrow.RecordBatch, error) { return b.NewRecordBatch(), nil })
			wantRejected("migrate", err)
			if n := countFiles(); n != before {
				t.Errorf("after rejected changes, got %d files, want %d", n, before)
			}
			tabletest.WantRows(t, bucket, "existing", 1)
		}
	}
}

func TestEvolveToInvalidNames(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	x := arrow.StructOf(tabletest.Nullable("x", arrow.PrimitiveTypes.Int64))
	schema := arrow.NewSchema([]arrow.Field{tabletest.Nullable("n", x.Field(0).Type), tabletest.Nullable("s", x)}, nil)
	empty := array.NewRecordBuilder(memory.DefaultAllocator, schema).NewRecordBatch()
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(empty), tables.PutReplace, nil)
	for _, name := range []string{"", "a\x00", "\xff", "s.x", "s", "_row_id"} {
		for _, c := range []tables.ColumnChange{{Op: "add", Column: name, Type: "int64"}, {Op: "rename", Column: "n", To: name}} {
			if err := b.Table("t").Evolve(ctx, c); !errors.As(err, new(*tables.SchemaError)) {
				t.Errorf("Evolve with %s of %q: error = %v, want a SchemaError", c.Op, name, err)
			}
		}
	}
	if got, err := b.Table("t").Schema(ctx); err != nil || !got.Equal(schema) {
		t.Errorf("Schema = %+v, %v; want %v", got, err, schema)
	}
}

// jsonArray returns a column with the values of a JSON array.
func jsonArray(t *testing.T, typ arrow.DataType, values string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(values))
	must.Do(t, err)
	return a
}

// batchOf returns a batch with columns a, b and so on.
func batchOf(rows int64, columns ...arrow.Array) arrow.RecordBatch {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = tabletest.Nullable(string(rune('a'+i)), c.DataType())
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, rows)
}

func readerOf(t *testing.T, batches ...arrow.RecordBatch) array.RecordReader {
	t.Helper()
	return must.Get(array.NewRecordReader(batches[0].Schema(), batches))(t)
}

// wantRejected checks that every operation that writes rows rejects bad and changes nothing. The error must be a
// SchemaError for the column, and contain text.
func wantRejected(t *testing.T, good, bad arrow.RecordBatch, column, text string) {
	t.Helper()
	ctx := t.Context()
	for _, noTail := range []bool{false, true} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: noTail})
		b := s.Bucket("b")
		tabletest.PutRows(t, b, "t", readerOf(t, good), tables.PutError, nil)
		want := tabletest.TableText(t, b, "t", nil)
		vs := must.Get(b.Table("t").Versions(ctx))(t)
		operations := map[string]func() error{
			"append":  func() error { _, err := b.Table("t").Put(ctx, readerOf(t, bad), tables.PutAppend, nil); return err },
			"replace": func() error { _, err := b.Table("t").Put(ctx, readerOf(t, bad), tables.PutReplace, nil); return err },
			"create":  func() error { _, err := b.Table("new").Put(ctx, readerOf(t, bad), tables.PutError, nil); return err },
			"append after a valid batch": func() error {
				return must.Err(b.Table("t").Put(ctx, readerOf(t, good, bad), tables.PutAppend, nil))
			},
			"upsert": func() error {
				return must.Err(b.Table("t").Upsert(ctx, readerOf(t, bad), &tables.UpsertOptions{Keys: []string{"a"}}))
			},
			"migrate": func() error {
				_, err := b.Table("t").Migrate(ctx, 1, func(old arrow.RecordBatch) (arrow.RecordBatch, error) {
					if old.NumRows() == 0 {
						return bad.NewSlice(0, 0), nil
					}
					bad.Retain()
					return bad, nil
				})
				return err
			},
		}
		if len(vs) > 0 {
			version := vs[len(vs)-1].Version
			operations["replace a version"] = func() error {
				return must.Err(b.Table("t").Put(ctx, readerOf(t, bad), tables.PutReplace, &tables.PutOptions{Over: &version}))
			}
		}
		for name, operation := range operations {
			var schemaErr *tables.SchemaError
			if err := operation(); !errors.As(err, &schemaErr) || schemaErr.Column != column || !strings.Contains(err.Error(), text) {
				t.Errorf("%s, NoTail %v: error = %v, want a SchemaError for column %q that contains %q", name, noTail, err, column, text)
			}
		}
		must.Get(s.Fold(ctx, nil))(t)
		tabletest.WantText(t, b, "t", want)
	}
}

// TestNullsInNestedFields checks that a null in a nested field that does not allow nulls is rejected, with the field's
// path in the error.
func TestNullsInNestedFields(t *testing.T) {
	number, text := arrow.PrimitiveTypes.Int64, arrow.BinaryTypes.String
	required := func(name string, t arrow.DataType) arrow.Field { return arrow.Field{Name: name, Type: t} }
	point := arrow.StructOf(required("p", number), arrow.Field{Name: "q", Type: text, Nullable: true})
	items := arrow.MapOf(text, number)
	items.SetItemNullable(false)
	for _, c := range []struct {
		typ             arrow.DataType
		good, bad, path string
	}{
		{point, `[{"p":1,"q":"x"},null]`, `[{"p":2,"q":"y"},{"p":null,"q":"z"}]`, "b.p"},
		{arrow.ListOfField(required("item", number)), `[[1,2],null]`, `[[3],[4,null]]`, "b.element"},
		{arrow.LargeListOfField(required("item", number)), `[[1,2],null]`, `[[3],[4,null]]`, "b.element"},
		{arrow.FixedSizeListOfField(2, required("item", number)), `[[1,2],null]`, `[[3,4],[4,null]]`, "b.element"},
		{arrow.ListOf(point), `[[{"p":1,"q":null}],null]`, `[null,[null,{"p":null,"q":"z"}]]`, "b.element.p"},
		{items, `[[{"key":"k","value":1}],null]`, `[[{"key":"k","value":1}],[{"key":"l","value":null}]]`, "b.value"},
		{arrow.StructOf(required("s", point)), `[{"s":{"p":1,"q":"x"}},null]`, `[{"s":{"p":1,"q":"x"}},{"s":null}]`, "b.s"},
	} {
		builderType := c.typ
		if builderType.ID() == arrow.MAP { // a map's builder panics on nulls that the type does not allow
			builderType = arrow.MapOf(text, number)
		}
		typed := func(values string) arrow.Array {
			d := jsonArray(t, builderType, values).Data()
			return array.MakeFromData(array.NewData(c.typ, d.Len(), d.Buffers(), d.Children(), d.NullN(), d.Offset()))
		}
		ids := jsonArray(t, number, `[1,2]`)
		wantRejected(t, batchOf(2, ids, typed(c.good)), batchOf(2, ids, typed(c.bad)), "b", fmt.Sprintf("field %q is null in row 2", c.path))
	}
}

// TestLongColumn checks that a column that is longer than its batch is rejected.
func TestLongColumn(t *testing.T) {
	number := arrow.PrimitiveTypes.Int64
	long := jsonArray(t, number, `[1,2,3]`)
	wantRejected(t, batchOf(2, long, long).NewSlice(0, 2), batchOf(2, long, jsonArray(t, number, `[1,2]`)), "a", "the column has 3 values in a batch of 2 rows")
}
