package definition_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// create creates table "t" in Iceberg's format version 2 as another program would.
func create(t *testing.T, s *tables.Store, columns *iceberg.Schema, spec *iceberg.PartitionSpec) {
	t.Helper()
	meta := must.Get(partdiceberg.NewMetadata(s, columns, spec, table.UnsortedSortOrder, iceberg.Properties{"format-version": "2"}))(t)
	must.Get(partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Table: "t", New: meta}))(t)
}

// TestReplaceKeepsOldPutTypes checks that after replacements whose types Iceberg stores in the same way, each version
// still has the types and the schema metadata of the put that wrote it.
func TestReplaceKeepsOldPutTypes(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
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
		got := must.Get(must.Get(b.Table("t").At(t.Context(), at))(t).Schema(t.Context()))(t).Metadata()
		if text, _ := got.GetValue("pandas"); text != p.metadata {
			t.Errorf("version %d has the metadata %q, want %q", i+1, text, p.metadata)
		}
	}
	meta := must.Get(tabletest.NewEngine(t, s, "", "t").LoadTable(t.Context(), nil))(t).Metadata()
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
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64, Doc: "number"}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String, Doc: "text"})
	create(t, s, columns, iceberg.UnpartitionedSpec)
	for _, c := range []struct {
		columns string
		id      int
		doc     string
	}{{"n int64; s utf8", 0, "text"}, {"n int64; s int64", 1, ""}} {
		tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, c.columns, `{"n":1}`), tables.PutReplace, nil)
		got := must.Get(tabletest.NewEngine(t, s, "", "t").LoadTable(t.Context(), nil))(t).Schema()
		if got.ID != c.id || got.Field(0).Doc != "number" || got.Field(1).Doc != c.doc {
			t.Errorf("%s: got schema %d, %v, want schema %d with the documentation %q", c.columns, got.ID, got, c.id, c.doc)
		}
	}
}

// TestPartitionSources checks changes of a column that a partition spec uses, even if the spec is no longer current. The
// column cannot be dropped, replaced or widened to float64. After the spec was removed, it can.
func TestPartitionSources(t *testing.T) {
	t.Parallel()
	const rows = `{"n":7,"i":7}`
	evolve := func(changes ...tables.ColumnChange) func(*testing.T, *tables.Bucket) error {
		return func(t *testing.T, b *tables.Bucket) error { return b.Table("t").Evolve(t.Context(), changes...) }
	}
	put := func(columns string, mode tables.PutMode) func(*testing.T, *tables.Bucket) error {
		return func(t *testing.T, b *tables.Bucket) error {
			_, err := b.Table("t").Put(t.Context(), tabletest.JSONRows(t, columns, rows), mode, nil)
			return err
		}
	}
	drop := tables.ColumnChange{Op: "drop", Column: "n"}
	changes := map[string]struct {
		do        func(*testing.T, *tables.Bucket) error
		isAllowed bool
	}{
		"drop":                        {do: evolve(drop)},
		"drop and add":                {do: evolve(drop, tables.ColumnChange{Op: "add", Column: "n", Type: "int32"})},
		"widen to float64":            {do: evolve(tables.ColumnChange{Op: "widen", Column: "n", Type: "float64"})},
		"widen to int64":              {evolve(tables.ColumnChange{Op: "widen", Column: "n", Type: "int64"}), true},
		"rename":                      {evolve(tables.ColumnChange{Op: "rename", Column: "n", To: "m"}), true},
		"drop another column":         {evolve(tables.ColumnChange{Op: "drop", Column: "i"}), true},
		"replace by the same columns": {put("n int32; i int32", tables.PutReplace), true},
		"replace by larger integers":  {put("n int64; i int32", tables.PutReplace), true},
		"replace by floats":           {do: put("n float64; i int32", tables.PutReplace)},
		"replace by fewer columns":    {do: put("i int32", tables.PutReplace)},
		"append floats":               {do: put("n float64; i int32", tables.PutAppend)},
		"append larger integers":      {put("n int64; i int32", tables.PutAppend), true},
		"migrate": {do: func(t *testing.T, b *tables.Bucket) error {
			_, err := b.Table("t").Migrate(t.Context(), 1, func(r arrow.RecordBatch) (arrow.RecordBatch, error) {
				return array.NewRecordBatch(arrow.NewSchema(r.Schema().Fields()[1:], nil), r.Columns()[1:], r.NumRows()), nil
			})
			return err
		}},
		"restore": {func(t *testing.T, b *tables.Bucket) error { return b.Restore(t.Context(), "without n") }, true},
		"restore with another column of this name": {do: func(t *testing.T, b *tables.Bucket) error { return b.Restore(t.Context(), "another n") }},
	}
	for _, transform := range []iceberg.Transform{iceberg.IdentityTransform{}, iceberg.BucketTransform{NumBuckets: 3}, iceberg.TruncateTransform{Width: 3}, iceberg.VoidTransform{}} {
		for state := range map[string]bool{"current": true, "old": true, "removed": true} {
			for name, c := range changes {
				t.Run(transform.String()+", "+state+"/"+name, func(t *testing.T) {
					t.Parallel()
					s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
					b := s.Bucket("")
					columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "i", Type: iceberg.PrimitiveTypes.Int32})
					create(t, s, columns, iceberg.UnpartitionedSpec)
					must.Get(b.Snapshot(t.Context(), "without n"))(t)
					must.Do(t, b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "add", Column: "n", Type: "utf8"}))
					must.Get(b.Snapshot(t.Context(), "another n"))(t)
					commit := func(updates ...table.Update) {
						t.Helper()
						tabletest.NewEngine(t, s, "", "t").Update(updates...)
					}
					columns = iceberg.NewSchema(2, iceberg.NestedField{ID: 3, Name: "n", Type: iceberg.PrimitiveTypes.Int32}, columns.Field(0))
					spec := iceberg.NewPartitionSpecID(1, iceberg.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "p", Transform: transform})
					commit(table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1), table.NewAddPartitionSpecUpdate(&spec, false), table.NewSetDefaultSpecUpdate(-1))
					must.Do(t, b.Table("t").SetEvolution(t.Context(), tables.Flexible))
					if state != "current" {
						commit(table.NewSetDefaultSpecUpdate(0))
					}
					if state == "removed" {
						commit(table.NewRemoveSpecUpdate([]int{1}))
					}
					must.Do(t, put("n int32; i int32", tables.PutAppend)(t, b))
					err := c.do(t, b)
					if c.isAllowed || state == "removed" || transform.String() == "void" {
						must.Do(t, err)
						if isUsed := state != "removed" && transform.String() != "void"; name == "restore" && isUsed {
							tabletest.WantText(t, b, "t", "i int32; n int32")
							must.Do(t, put("n int32; i int32", tables.PutAppend)(t, b))
							tabletest.WantText(t, b, "t", "i int32; n int32 | 7,7")
						}
						return
					}
					if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), `column "n"`) || !strings.Contains(err.Error(), "partition spec 1") {
						t.Errorf("got error %v, want a SchemaError that names the column and the partition spec", err)
					}
				})
			}
		}
	}
}

// TestReplaceOfBrokenSpec checks that a table whose columns already lack a column that a partition spec uses can be
// changed.
func TestReplaceOfBrokenSpec(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	spec := iceberg.NewPartitionSpecID(0, iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "n", Transform: iceberg.IdentityTransform{}})
	create(t, s, iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "i", Type: iceberg.PrimitiveTypes.Int64}), &spec)
	tabletest.NewEngine(t, s, "", "t").Update(table.NewAddSchemaUpdate(iceberg.NewSchema(1, iceberg.NestedField{ID: 2, Name: "i", Type: iceberg.PrimitiveTypes.Int64})), table.NewSetCurrentSchemaUpdate(-1))
	must.Do(t, b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "add", Column: "a", Type: "utf8"}))
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
			s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
			b := s.Bucket("")
			columns := iceberg.NewSchemaWithIdentifiers(0, []int{1}, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int32, Required: true}, iceberg.NestedField{ID: 2, Name: "i", Type: iceberg.PrimitiveTypes.Int32})
			create(t, s, columns, iceberg.UnpartitionedSpec)
			engine := tabletest.NewEngine(t, s, "", "t")
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
