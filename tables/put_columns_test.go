package tables_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReplaceKeepsOldPutTypes checks that after replacements whose types Iceberg stores in the same way, each version
// still has the types and the schema metadata of its own put.
func TestReplaceKeepsOldPutTypes(t *testing.T) {
	b := tabletest.BucketWithoutTail(t)
	puts := []struct{ columns, rows, metadata string }{
		{"n uint8; s utf8", `{"n":200,"s":"a"}`, "first"},
		{"n int16; s utf8", `{"n":-300,"s":"b"}`, "first"},
		{"n int16; s utf8", `{"n":-301,"s":"c"}`, "second"},
		{"n uint8; s utf8", `{"n":201,"s":"d"}`, "first"}, // as the first put
		{"n int32; s utf8", `{"n":-70000,"s":"e"}`, "second"},
	}
	for _, p := range puts {
		m := arrow.MetadataFrom(map[string]string{"pandas": p.metadata})
		columns := arrow.NewSchema(tabletest.ParseColumns(t, p.columns).Fields(), &m)
		rows := tabletest.ParseRows(t, tabletest.ParseColumns(t, p.columns), "["+p.rows+"]")
		tabletest.PutRows(t, b, "t", tabletest.OneBatch(array.NewRecordBatch(columns, rows.Columns(), rows.NumRows())), tables.PutReplace, nil)
	}
	for i, p := range puts {
		at := tables.AtVersion(tables.Version(i + 1))
		values := strings.NewReplacer(`{"n":`, "", `"s":`, "", `"`, "", "}", "").Replace(p.rows)
		tabletest.WantText(t, b, "t", p.columns+" | "+values, at)
		got := must.Get(tableAt(t, b, "t", at).Schema(t.Context()))(t).Metadata()
		if text, _ := got.GetValue("pandas"); text != p.metadata {
			t.Errorf("version %d has the metadata %q, want %q", i+1, text, p.metadata)
		}
	}
	meta := must.Get(tabletest.NewEngine(t, b.Store(), b.Name(), "t").LoadTable(t.Context(), nil))(t).Metadata()
	for _, s := range meta.Schemas() {
		if s.Field(0).ID != 1 || s.Field(1).ID != 2 {
			t.Errorf("the schema %v has other IDs than the first one", s)
		}
	}
	if n := len(meta.Schemas()); n != 4 {
		t.Errorf("the table has %d schemas, want 4: the fourth put has the types of the first", n)
	}
}

// TestReplaceKeepsDocumentation checks that a replacement with the same columns does not change the schema of another
// program, and that other replacements keep the documentation of columns that keep their IDs.
func TestReplaceKeepsDocumentation(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64, Doc: "number"}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String, Doc: "text"})
	createIceberg(t, b, columns, iceberg.UnpartitionedSpec, 2)
	for _, c := range []struct {
		columns string
		id      int
		doc     string
	}{{"n int64; s utf8", 0, "text"}, {"n int64; s int64", 1, ""}} {
		tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, `{"n":1}`), tables.PutReplace, nil)
		s := must.Get(tabletest.NewEngine(t, b.Store(), "", "t").LoadTable(t.Context(), nil))(t).Schema()
		if s.ID != c.id || s.Field(0).Doc != "number" || s.Field(1).Doc != c.doc {
			t.Errorf("%s: got schema %d, %v, want schema %d with the documentation %q", c.columns, s.ID, s, c.id, c.doc)
		}
	}
}

// TestEvolveKeepsForeignOrder checks that changes of columns and settings keep another program's sort order and
// identifier columns, unless they drop or widen the column that these use.
func TestEvolveKeepsForeignOrder(t *testing.T) {
	for name, c := range map[string]struct {
		do                 func(b *tables.Bucket) error
		order, identifiers int
	}{
		"add": {func(b *tables.Bucket) error {
			return evolveTable(t, b, tables.ColumnChange{Op: "add", Column: "a", Type: "utf8"})
		}, 1, 1},
		"rename": {func(b *tables.Bucket) error {
			return evolveTable(t, b, tables.ColumnChange{Op: "rename", Column: "n", To: "m"})
		}, 1, 1},
		"drop": {func(b *tables.Bucket) error { return evolveTable(t, b, tables.ColumnChange{Op: "drop", Column: "n"}) }, 0, 0},
		"widen": {func(b *tables.Bucket) error {
			return evolveTable(t, b, tables.ColumnChange{Op: "widen", Column: "n", Type: "float64"})
		}, 0, 1},
		"settings": {func(b *tables.Bucket) error { return b.Table("t").SetEvolution(t.Context(), tables.Strict) }, 1, 1},
		"replace": {func(b *tables.Bucket) error {
			_, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, "n int32; a utf8", `{"n":1}`), tables.PutReplace, nil)
			return err
		}, 1, 0}, // the new column can be null
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
			columns := iceberg.NewSchemaWithIdentifiers(0, []int{1}, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int32, Required: true}, iceberg.NestedField{ID: 2, Name: "i", Type: iceberg.PrimitiveTypes.Int32})
			createIceberg(t, b, columns, iceberg.UnpartitionedSpec, 2)
			engine := tabletest.NewEngine(t, b.Store(), "", "t")
			order := must.Get(table.NewSortOrder(1, []table.SortField{{SourceIDs: []int{1}, Transform: iceberg.BucketTransform{NumBuckets: 3}, Direction: table.SortASC, NullOrder: table.NullsFirst}}))(t)
			engine.Update(table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(-1))
			must.Do(t, c.do(b))
			meta := must.Get(engine.LoadTable(t.Context(), nil))(t).Metadata()
			sorted := meta.SortOrder()
			if sorted.Len() != c.order || len(meta.CurrentSchema().IdentifierFieldIDs) != c.identifiers {
				t.Errorf("got the order %v and the identifiers %v, want %d and %d columns", sorted, meta.CurrentSchema().IdentifierFieldIDs, c.order, c.identifiers)
			}
		})
	}
}

func evolveTable(t *testing.T, b *tables.Bucket, c tables.ColumnChange) error {
	t.Helper()
	return b.Table("t").Evolve(t.Context(), c)
}
