package foreign_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestDeletesOfReplacedColumns checks commits of equality deletes that another program wrote before the table's columns
// changed. They must be refused if they compare a replaced column: all new rows have null for it, so a null in the deletes
// would delete all of them.
func TestDeletesOfReplacedColumns(t *testing.T) {
	const refused = "compare the field with ID 2"
	for name, c := range map[string]struct {
		change func(w *lateWriter)
		want   string // the rows, or refused
	}{
		"the same column":  {func(w *lateWriter) { w.replace("id int64; v utf8", `{"id":1,"v":"b"}, {"id":2}`) }, "1,b"},
		"a renamed column": {func(w *lateWriter) { w.evolve(tables.ColumnChange{Op: "rename", Column: "v", To: "u"}) }, "1,a"},
		"a dropped column": {func(w *lateWriter) { w.evolve(tables.ColumnChange{Op: "drop", Column: "v"}) }, "1"},
		"another type":     {func(w *lateWriter) { w.replace("id int64; v int64", `{"id":1,"v":3}, {"id":2}`) }, refused},
		"no such column":   {func(w *lateWriter) { w.replace("id int64", `{"id":1}`) }, refused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWriter(t)
			tabletest.PutRows(t, w.b, "t", tabletest.JSONRows(t, "id int64; v utf8", `{"id":2}`), tables.PutAppend, nil)
			engine := tabletest.NewEngine(t, w.s, w.b.Name(), "t")
			ident := table.Identifier{w.b.Name(), "t"}
			rows := tabletest.ParseRows(t, arrow.NewSchema([]arrow.Field{tabletest.Nullable("v", arrow.BinaryTypes.String)}, nil), `[{"v":null}]`)
			old := must.Get(engine.LoadTable(t.Context(), ident))(t)
			deletes := must.Get(old.NewTransaction().WriteEqualityDeletes(t.Context(), []int{2}, func(yield func(arrow.RecordBatch, error) bool) { yield(rows, nil) }))(t)
			c.change(w)
			before := tabletest.TableText(t, w.b, "t", nil)
			loaded := must.Get(engine.LoadTable(t.Context(), ident))(t)
			// the library itself would refuse deletes by a column that the current schema lacks
			meta := must.Get(table.UpdateTableMetadata(loaded.Metadata(), []table.Update{table.NewSetCurrentSchemaUpdate(old.Schema().ID)}, ""))(t)
			tx := table.New(ident, meta, loaded.MetadataLocation(), icebergio.LoadFSFunc(nil, loaded.MetadataLocation()), engine).NewTransaction()
			must.Do(t, tx.NewRowDelta(nil).AddDeletes(deletes...).Commit(t.Context()))
			_, err := tx.Commit(t.Context())
			after := tabletest.TableText(t, w.b, "t", nil)
			if c.want == refused {
				must.Fail(t, err, refused, "delete by a replaced column")
				if after != before {
					t.Errorf("the refused commit changed the rows %s to %s", before, after)
				}
				return
			}
			if _, got, _ := strings.Cut(after, " | "); err != nil || got != c.want {
				t.Errorf("got the rows %s, error %v, want %s", got, err, c.want)
			}
		})
	}
}

// TestFilesOfPublishedBranches checks that files of another branch are checked when it becomes the current one, even if
// their snapshot has expired after a later commit merged their manifest, or if the same commit adds a snapshot that uses
// the manifest to the other branch.
func TestFilesOfPublishedBranches(t *testing.T) {
	for name, publish := range map[string]func(w *lateWriter, other *table.Snapshot) error{
		"an expired snapshot": func(w *lateWriter, other *table.Snapshot) error {
			w.write(`{"id":7}`)
			must.Do(w, w.commit("other"))
			tabletest.NewEngine(w, w.s, w.b.Name(), "t").Update(table.NewRemoveSnapshotsUpdate([]int64{other.SnapshotID}, false))
			return w.publish("other")
		},
		"a new snapshot of the other branch": func(w *lateWriter, other *table.Snapshot) error {
			next := *other
			next.SnapshotID, next.SequenceNumber, next.ParentSnapshotID = other.SnapshotID+1, other.SequenceNumber+1, &other.SnapshotID
			_, _, err := tabletest.NewEngine(w, w.s, w.b.Name(), "t").CommitTable(w.Context(), nil, nil, []table.Update{
				table.NewAddSnapshotUpdate(&next),
				table.NewSetSnapshotRefUpdate("other", next.SnapshotID, table.BranchRef, 0, 0, 0),
				table.NewSetSnapshotRefUpdate(table.MainBranch, other.SnapshotID, table.BranchRef, 0, 0, 0),
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWriter(t)
			engine := tabletest.NewEngine(t, w.s, w.b.Name(), "t")
			first := must.Get(engine.LoadTable(t.Context(), nil))(t).CurrentSnapshot().SnapshotID
			w.replace("id int64", `{"id":2}`)
			engine.Update(table.NewSetSnapshotRefUpdate("other", first, table.BranchRef, 0, 0, 0), table.NewSetPropertiesUpdate(iceberg.Properties{table.ManifestMinMergeCountKey: "2"}))
			must.Do(t, w.commit("other"))
			other := must.Get(engine.LoadTable(t.Context(), nil))(t).SnapshotByName("other")
			must.Fail(t, publish(w, other), `fields ["v"] of the file`, "publish the branch")
			tabletest.WantText(t, w.b, "t", "id int64 | 2")
		})
	}
}
