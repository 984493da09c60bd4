package tables

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// unfitColumns are columns that no table has, and what is said of them.
func unfitColumns() map[string][]arrow.Field {
	field := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	}
	of := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	empty := arrow.StructOf(field("x"), field(""))
	return map[string][]arrow.Field{
		`column "" has type int64: its name is empty`:                                  {field("n"), field("")},
		`its name contains a zero byte`:                                                {field("n"), field("a\x00b")},
		`its name is not valid UTF-8`:                                                  {field("a\xffb")},
		`two columns have this name`:                                                   {field("n"), field("n")},
		`column "s" has type struct<x: int64 nullable, : int64 nullable>: its field's`: {of("s", empty)},
		`column "l"`: {of("l", arrow.ListOf(empty))},
		`column "m"`: {of("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.ListOf(empty)))},
		`its field's name "a\x00" contains a zero byte`: {of("s", arrow.StructOf(field("a\x00")))},
		`its field's name "\xff" is not valid UTF-8`:    {of("s", arrow.StructOf(field("\xff")))},
		`the column has two fields named "x"`:           {of("s", arrow.StructOf(field("x"), field("x")))},
		`Iceberg would call two fields "s.x"`:           {of("s", arrow.StructOf(field("x"))), field("s.x")},
		`Iceberg would call two fields "l.element"`:     {field("l.element"), of("l", arrow.ListOf(arrow.PrimitiveTypes.Int64))},
		`column "_row_id"`:                              {field("_row_id")},
	}
}

// Columns whose names cannot be kept are refused by name, whichever way they come, before
// anything is written.
func TestUnfitNames(t *testing.T) {
	t.Parallel()
	for want, fields := range unfitColumns() {
		schema := arrow.NewSchema(fields, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range fields {
			b.Field(i).AppendNull()
		}
		rows := func() array.RecordReader { return oneBatch(b.NewRecordBatch()) }
		for _, noTail := range []bool{true, false} {
			ctx, s := t.Context(), mustOpen(t, t.TempDir(), &Options{NoTail: noTail, FoldAge: -1})
			bucket := s.Bucket("b")
			refused := func(how string, err error) {
				t.Helper()
				if unfit := (*SchemaError)(nil); !errors.As(err, &unfit) || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %q", how, err, want)
				}
			}
			files := func() (n int) {
				t.Helper()
				err := filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(_ string, d fs.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						n++
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			for _, m := range []PutMode{PutAppend, PutReplace, PutError} {
				_, err := bucket.Put(ctx, "t", rows(), m, nil)
				refused("put", err)
			}
			refused("txn", s.Update(ctx, func(x *Txn) error { return x.Put("b", "t", rows(), PutAppend, nil) }))
			if n := files(); n > 0 {
				t.Errorf("%d files were written", n)
			}
			if buckets, err := s.Bucket("b").Exists(ctx); buckets || err != nil {
				t.Error(buckets, err)
			}
			mustPut(t, bucket, "there", PutReplace, 1)
			before := files()
			_, err := bucket.Put(ctx, "there", rows(), PutReplace, nil)
			refused("replace", err)
			_, err = bucket.Migrate(ctx, "there", 1, func(arrow.RecordBatch) (arrow.RecordBatch, error) { return b.NewRecordBatch(), nil })
			refused("migrate", err)
			if n := files(); n != before {
				t.Errorf("%d files, before %d", n, before)
			}
			wantRows(t, bucket, "there", 1)
		}
	}
}

// A change of columns gives none such a name either.
func TestEvolveToUnfitNames(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), mustOpen(t, t.TempDir(), nil)
	b := s.Bucket("")
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true},
	}, nil)
	none := array.NewRecordBuilder(memory.DefaultAllocator, schema).NewRecordBatch()
	if _, err := b.Put(ctx, "t", oneBatch(none), PutReplace, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a\x00", "\xff", "s.x", "s", "_row_id"} {
		for _, c := range []ColumnChange{{Op: "add", Column: name, Type: "int64"}, {Op: "rename", Column: "n", To: name}} {
			if err := b.Evolve(ctx, "t", c); !errors.As(err, new(*SchemaError)) {
				t.Errorf("%s %q: %v", c.Op, name, err)
			}
		}
	}
	tab, err := b.Table(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tab.Schema(ctx); err != nil || !got.Equal(schema) {
		t.Error(got, err)
	}
}
