package commit_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestNameMapping checks that a table's name mapping contains the columns after each kind of change, and that a mapping
// which another program changes together with the columns is kept.
func TestNameMapping(t *testing.T) {
	evolve := func(changes ...tables.ColumnChange) func(*tables.Bucket, tabletest.Engine) {
		return func(b *tables.Bucket, _ tabletest.Engine) { must.Do(t, b.Table("t").Evolve(t.Context(), changes...)) }
	}
	replace := func(columns string) func(*tables.Bucket, tabletest.Engine) {
		return func(b *tables.Bucket, _ tabletest.Engine) {
			tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, columns, `{"id":2}`), tables.PutReplace, nil)
		}
	}
	newColumns := func(e tabletest.Engine, fields ...iceberg.NestedField) []table.Update {
		loaded := must.Get(e.LoadTable(t.Context(), nil))(t)
		columns := iceberg.NewSchema(0, append(loaded.Schema().Fields(), fields...)...)
		return []table.Update{table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1)}
	}
	inner := &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 4, Name: "x", Type: iceberg.PrimitiveTypes.Int32}}}
	setMapping := func(e tabletest.Engine, text string) {
		e.Update(table.NewSetPropertiesUpdate(iceberg.Properties{table.DefaultNameMappingKey: text}))
	}
	const initial = `[{"names":["id"],"field-id":1},{"names":["v"],"field-id":2}]`
	for name, c := range map[string]struct {
		change func(*tables.Bucket, tabletest.Engine)
		want   string
	}{
		"an equal table": {replace("id int64; v utf8"), "[([id] -> 1) ([v] -> 2)]"},
		"added":          {evolve(tables.ColumnChange{Op: "add", Column: "w", Type: "int64"}), "[([id] -> 1) ([v] -> 2) ([w] -> 3)]"},
		"renamed":        {evolve(tables.ColumnChange{Op: "rename", Column: "v", To: "w"}), "[([id] -> 1) ([v, w] -> 2)]"},
		"dropped":        {evolve(tables.ColumnChange{Op: "drop", Column: "v"}), "[([id] -> 1) ([v] -> 2)]"},
		"swapped": {
			evolve(tables.ColumnChange{Op: "rename", Column: "v", To: "w"}, tables.ColumnChange{Op: "rename", Column: "id", To: "v"}, tables.ColumnChange{Op: "rename", Column: "w", To: "id"}),
			"[([v] -> 1) ([id] -> 2)]",
		},
		"another type": {replace("id int64; v int64"), "[([id] -> 1) ([v] -> 4)]"},
		"nested, by another program": {func(_ *tables.Bucket, e tabletest.Engine) {
			e.Update(newColumns(e, iceberg.NestedField{ID: 3, Name: "s", Type: inner})...)
		}, "[([id] -> 1) ([v] -> 2) ([s] -> 3 ([x] -> 4))]"},
		"with its mapping, by another program": {func(_ *tables.Bucket, e tabletest.Engine) {
			property := iceberg.Properties{table.DefaultNameMappingKey: `[{"names":["other"],"field-id":3}]`}
			e.Update(append(newColumns(e, iceberg.NestedField{ID: 3, Name: "w", Type: iceberg.PrimitiveTypes.Int32}), table.NewSetPropertiesUpdate(property))...)
		}, "[([other] -> 3)]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), nil)
			b := s.Bucket("")
			tabletest.PutRows(t, b, "t", tabletest.JSONRows(t, "id int64; v utf8", `{"id":1,"v":"a"}`), tables.PutAppend, nil)
			engine := tabletest.NewEngine(t, s, "", "t")
			setMapping(engine, initial)
			c.change(b, engine)
			loaded := must.Get(engine.LoadTable(t.Context(), nil))(t)
			var mapping []*iceberg.MappedField
			must.Do(t, json.Unmarshal([]byte(loaded.Properties()[table.DefaultNameMappingKey]), &mapping))
			if got := fmt.Sprint(mapping); got != c.want {
				t.Errorf("the name mapping is %s, want %s", got, c.want)
			}
		})
	}
}
