package tables_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

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
		fields[i] = arrow.Field{Name: string(rune('a' + i)), Type: c.DataType(), Nullable: true}
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, rows)
}

func readerOf(t *testing.T, batches ...arrow.RecordBatch) array.RecordReader {
	t.Helper()
	return must.Get(array.NewRecordReader(batches[0].Schema(), batches))(t)
}

// rowTexts returns each row of a table as text.
func rowTexts(t *testing.T, b *tables.Bucket, name string) (all []string) {
	t.Helper()
	table := b.Table(name)
	r := must.Get(table.Scan(t.Context(), nil))(t)
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			var row []string
			for _, c := range r.RecordBatch().Columns() {
				row = append(row, c.ValueStr(i))
			}
			all = append(all, strings.Join(row, " "))
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return all
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
		want := rowTexts(t, b, "t")
		table := b.Table("t")
		vs := must.Get(table.Versions(ctx))(t)
		operations := map[string]func() error{
			"append":  func() error { _, err := b.Table("t").Put(ctx, readerOf(t, bad), tables.PutAppend, nil); return err },
			"replace": func() error { _, err := b.Table("t").Put(ctx, readerOf(t, bad), tables.PutReplace, nil); return err },
			"create":  func() error { _, err := b.Table("new").Put(ctx, readerOf(t, bad), tables.PutError, nil); return err },
			"append after a valid batch": func() error {
				_, err := b.Table("t").Put(ctx, readerOf(t, good, bad), tables.PutAppend, nil)
				return err
			},
			"upsert": func() error {
				_, err := b.Table("t").Upsert(ctx, readerOf(t, bad), &tables.UpsertOptions{Keys: []string{"a"}})
				return err
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
				_, err := b.Table("t").Put(ctx, readerOf(t, bad), tables.PutReplace, &tables.PutOptions{Over: &version})
				return err
			}
		}
		for name, operation := range operations {
			var schemaErr *tables.SchemaError
			if err := operation(); !errors.As(err, &schemaErr) || schemaErr.Column != column || !strings.Contains(err.Error(), text) {
				t.Errorf("%s, NoTail %v: error = %v, want a SchemaError for column %q that contains %q", name, noTail, err, column, text)
			}
		}
		must.Get(s.Fold(ctx, nil))(t)
		if got := rowTexts(t, b, "t"); !slices.Equal(got, want) {
			t.Errorf("after the rejected puts, the rows are %q, want %q", got, want)
		}
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
