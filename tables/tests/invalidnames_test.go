package tables_test

import (
	"errors"
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
	field := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	}
	column := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
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
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
	}, nil)
	empty := array.NewRecordBuilder(memory.DefaultAllocator, schema).NewRecordBatch()
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(empty), tables.PutReplace, nil)
	for _, name := range []string{"", "a\x00", "\xff", "s.x", "s", "_row_id"} {
		for _, c := range []tables.ColumnChange{{Op: "add", Column: name, Type: "int64"}, {Op: "rename", Column: "n", To: name}} {
			if err := b.Table("t").Evolve(ctx, c); !errors.As(err, new(*tables.SchemaError)) {
				t.Errorf("Evolve with %s of %q: error = %v, want a SchemaError", c.Op, name, err)
			}
		}
	}
	table := b.Table("t")
	if got, err := table.Schema(ctx); err != nil || !got.Equal(schema) {
		t.Errorf("Schema = %+v, %v; want %v", got, err, schema)
	}
}
