package foreign_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMarksOfEngines checks that an engine cannot set partd's properties in the summaries of its snapshots. A table that is
// registered keeps them, except for the number of rows.
func TestMarksOfEngines(t *testing.T) {
	for _, version := range []string{"1", "2"} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
		columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "v", Type: iceberg.PrimitiveTypes.String})
		meta := must.Get(partdiceberg.NewMetadata(s, columns, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, iceberg.Properties{"format-version": version}))(t)
		must.Get(partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Table: "t", New: meta}))(t)
		w := &lateWriter{T: t, s: s, b: s.Bucket("")}
		w.write(`{"id":1,"v":"a"}`)
		engine := tabletest.NewEngine(t, s, "", "t")
		engine.Commit(func(tx *table.Transaction) error {
			marks := iceberg.Properties{"partd.rows": "1000", "partd.put-versions": "77", "partd.rows-until": "5", "mine": "kept"}
			return tx.AddDataFiles(t.Context(), []iceberg.DataFile{w.file}, marks, table.WithoutAutoNameMapping())
		})
		check := func(want string) table.Metadata {
			t.Helper()
			loaded := must.Get(engine.LoadTable(t.Context(), nil))(t).Metadata()
			keys := slices.Sorted(maps.Keys(loaded.CurrentSnapshot().Summary.Properties))
			marks := slices.DeleteFunc(keys, func(k string) bool { return k != "mine" && !strings.HasPrefix(k, "partd.") })
			if got := strings.Join(marks, " "); got != want {
				t.Errorf("format version %s: the snapshot has %s, want %s", version, got, want)
			}
			if info := must.Get(w.b.Table("t").Info(t.Context()))(t); info.Rows != 1 || info.AtMost {
				t.Errorf("format version %s: the table has %d rows, at most %v, want 1", version, info.Rows, info.AtMost)
			}
			return loaded
		}
		loaded := check("mine")
		must.Do(t, w.b.Table("t").Delete(t.Context()))
		forged := strings.ReplaceAll(string(must.Get(json.Marshal(loaded))(t)), `"mine":"kept"`, `"mine":"kept","partd.rows":"1000","partd.put-versions":"77"`)
		must.Get(partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Table: "t", New: must.Get(table.ParseMetadataString(forged))(t), Registered: true}))(t)
		check("mine partd.put-versions")
	}
}
