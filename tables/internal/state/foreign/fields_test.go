package foreign_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// lateWriter is another program that writes a file for table "t". It commits the file after the table has changed.
type lateWriter struct {
	*testing.T
	s    *tables.Store
	b    *tables.Bucket
	file iceberg.DataFile
}

func newLateWriter(t *testing.T) *lateWriter {
	t.Helper()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	w := &lateWriter{T: t, s: s, b: s.Bucket("")}
	w.replace("id int64; v utf8", `{"id":1,"v":"a"}`)
	w.write(`{"id":9,"v":"z"}`)
	return w
}

// write writes rows to a file that has the table's current columns.
func (w *lateWriter) write(rows string) {
	w.Helper()
	t := must.Get(tabletest.NewEngine(w, w.s, w.b.Name(), "t").LoadTable(w.Context(), nil))(w)
	stored := must.Get(table.SchemaToArrowSchema(t.Schema(), nil, false, false))(w)
	batch := tabletest.ParseRows(w, stored, "["+rows+"]")
	w.file = must.Get(datafile.Write(w.Context(), t, stored, func(yield func(arrow.RecordBatch, error) bool) { yield(batch, nil) }, 0))(w)[0]
}

// overwrite replaces the file by one with rows of two integers. ids are the columns' IDs; nil means none.
func (w *lateWriter) overwrite(ids []string, rows string) {
	w.Helper()
	fields := []arrow.Field{tabletest.Nullable("id", arrow.PrimitiveTypes.Int64), tabletest.Nullable("v", arrow.PrimitiveTypes.Int64)}
	for i, id := range ids {
		fields[i].Metadata = arrow.NewMetadata([]string{datafile.IDKey}, []string{id})
	}
	batch := tabletest.ParseRows(w, arrow.NewSchema(fields, nil), rows)
	var text bytes.Buffer
	file := must.Get(pqarrow.NewFileWriter(batch.Schema(), &text, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps()))(w)
	must.Do(w, file.Write(batch))
	must.Do(w, file.Close())
	must.Do(w, os.WriteFile(strings.TrimPrefix(w.file.FilePath(), "file://"), text.Bytes(), 0o666))
	old := w.file
	w.file = must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, old.ContentType(), old.FilePath(), old.FileFormat(), nil, nil, nil, batch.NumRows(), int64(text.Len())))(w).Build()
}

// commit appends the file, as a program does that has loaded the table again after a conflict.
func (w *lateWriter) commit(branch string) error {
	w.Helper()
	t := must.Get(tabletest.NewEngine(w, w.s, w.b.Name(), "t").LoadTable(w.Context(), table.Identifier{w.b.Name(), "t"}))(w)
	tx := t.NewTransactionOnBranch(branch)
	must.Do(w, tx.AddDataFiles(w.Context(), []iceberg.DataFile{w.file}, nil, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck()))
	_, err := tx.Commit(w.Context())
	return err
}

// publish makes the snapshot of another branch the current one.
func (w *lateWriter) publish(branch string) error {
	w.Helper()
	t := must.Get(tabletest.NewEngine(w, w.s, w.b.Name(), "t").LoadTable(w.Context(), nil))(w)
	update := table.NewSetSnapshotRefUpdate(table.MainBranch, t.SnapshotByName(branch).SnapshotID, table.BranchRef, 0, 0, 0)
	_, err := partdiceberg.Commit(w.Context(), w.s, partdiceberg.Change{Bucket: w.b.Name(), Table: "t", Updates: table.Updates{update}})
	return err
}

func (w *lateWriter) replace(columns, rows string) {
	w.Helper()
	tabletest.PutRows(w, w.b, "t", tabletest.JSONRows(w, columns, rows), tables.PutReplace, nil)
}

func (w *lateWriter) evolve(changes ...tables.ColumnChange) {
	w.Helper()
	must.Do(w, w.b.Table("t").Evolve(w.Context(), changes...))
}

// TestFilesOfReplacedColumns checks commits of a file that another program wrote before the table's columns changed. A
// commit must be refused if a replacement or restore has removed one of the file's columns, or if the table has none of
// them. Other files are accepted, and their rows keep the values of all columns that the table has.
func TestFilesOfReplacedColumns(t *testing.T) {
	drop := tables.ColumnChange{Op: "drop", Column: "v"}
	add := tables.ColumnChange{Op: "add", Column: "v", Type: "utf8"}
	for name, c := range map[string]struct {
		change func(w *lateWriter)
		want   string // the rows, or the refused columns
	}{
		"equal columns":   {func(w *lateWriter) { w.replace("id int64; v utf8", `{"id":2,"v":"b"}`) }, "2,b | 9,z"},
		"one more column": {func(w *lateWriter) { w.replace("id int64; v utf8; w int32", `{"id":2,"v":"b","w":5}`) }, "2,b,5 | 9,z,(null)"},
		"another order":   {func(w *lateWriter) { w.replace("v utf8; id int64", `{"id":2,"v":"b"}`) }, "b,2 | z,9"},
		"put types":       {func(w *lateWriter) { w.replace("id int64; v large_utf8", `{"id":2,"v":"b"}`) }, "2,b | 9,z"},
		"one column less": {func(w *lateWriter) { w.replace("id int64", `{"id":2}`) }, `refused ["v"]`},
		"renamed":         {func(w *lateWriter) { w.replace("id int64; w utf8", `{"id":2,"w":"b"}`) }, `refused ["v"]`},
		"another type":    {func(w *lateWriter) { w.replace("id int64; v int64", `{"id":2,"v":3}`) }, `refused ["v"]`},
		"all columns":     {func(w *lateWriter) { w.replace("z int64", `{"z":3}`) }, `refused ["id" "v"]`},
		"a larger type": {func(w *lateWriter) {
			w.replace("id int32; v utf8", `{"id":2,"v":"b"}`)
			w.write(`{"id":8,"v":"y"}`)
			w.replace("id int64; v utf8", `{"id":3,"v":"c"}`)
		}, "3,c | 8,y"},
		"a replacement, and back": {func(w *lateWriter) {
			w.replace("id int64", `{"id":2}`)
			w.replace("id int64; v utf8", `{"id":2,"v":"b"}`)
		}, `refused ["v"]`},
		"a drop":                     {func(w *lateWriter) { w.evolve(drop) }, "1 | 9"},
		"a drop and another column":  {func(w *lateWriter) { w.evolve(drop, add) }, "1,(null) | 9,(null)"},
		"a drop of all columns":      {func(w *lateWriter) { w.evolve(drop, add, tables.ColumnChange{Op: "drop", Column: "id"}) }, `refused ["id" "v"]`},
		"a replacement after a drop": {func(w *lateWriter) { w.evolve(drop); w.replace("id int64; w utf8", `{"id":2}`) }, `refused ["v"]`},
		"a drop after a replacement": {func(w *lateWriter) {
			w.replace("id int64; v utf8; w int32", `{"id":2,"v":"b","w":5}`)
			w.evolve(drop)
		}, "2,5 | 9,(null)"},
		"an added column that is dropped after a replacement": {func(w *lateWriter) {
			w.replace("id int64; w utf8", `{"id":2,"w":"b"}`)
			w.evolve(add)
			w.write(`{"id":9,"w":"x","v":"z"}`)
			w.evolve(drop)
		}, "2,b | 9,x"},
		"a restore": {func(w *lateWriter) {
			must.Get(w.b.Snapshot(w.Context(), "s"))(w)
			w.evolve(tables.ColumnChange{Op: "add", Column: "w", Type: "int32"})
			w.write(`{"id":9,"v":"z","w":7}`)
			must.Do(w, w.b.Restore(w.Context(), "s"))
		}, `refused ["w"]`},
		"a restore of the same columns": {func(w *lateWriter) {
			must.Get(w.b.Snapshot(w.Context(), "s"))(w)
			w.replace("id int64; v utf8", `{"id":2,"v":"b"}`)
			must.Do(w, w.b.Restore(w.Context(), "s"))
		}, "1,a | 9,z"},
		"a migration": {func(w *lateWriter) {
			must.Get(w.b.Table("t").Migrate(w.Context(), 1, func(r arrow.RecordBatch) (arrow.RecordBatch, error) {
				return array.NewRecordBatch(arrow.NewSchema(r.Schema().Fields()[:1], nil), r.Columns()[:1], r.NumRows()), nil
			}))(w)
		}, `refused ["v"]`},
		"another program's replacement without rows": {func(w *lateWriter) {
			columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64})
			tabletest.NewEngine(w, w.s, w.b.Name(), "t").Update(table.NewAddSchemaUpdate(columns), table.NewSetCurrentSchemaUpdate(-1), table.NewRemoveSnapshotRefUpdate(table.MainBranch))
		}, `refused ["v"]`},
		"a file without IDs": {func(w *lateWriter) {
			w.replace("id int64; v int64", `{"id":2,"v":3}`)
			w.overwrite(nil, `[{"id":9,"v":4}]`)
		}, "2,3 | 9,4"},
		"a file without rows": {func(w *lateWriter) {
			w.overwrite([]string{"1", "2"}, "[]")
			w.replace("z int64", `{"z":3}`)
		}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWriter(t)
			c.change(w)
			before := tabletest.TableText(t, w.b, "t", nil)
			err := w.commit(table.MainBranch)
			_, got, _ := strings.Cut(tabletest.TableText(t, w.b, "t", nil), " | ")
			if fields, ok := strings.CutPrefix(c.want, "refused "); ok {
				if !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), "the fields "+fields+" of the file") {
					t.Errorf("got error %v, want an ArgumentError that names %s", err, fields)
				}
				if after := tabletest.TableText(t, w.b, "t", nil); after != before {
					t.Errorf("the refused commit changed the rows %s to %s", before, after)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got the rows %s, error %v, want %s", got, err, c.want)
			}
		})
	}
}

// TestFilesOnBranches checks that a file with replaced columns can be committed to another branch, and that a rollback to
// such files is possible.
func TestFilesOnBranches(t *testing.T) {
	w := newLateWriter(t)
	engine := tabletest.NewEngine(t, w.s, w.b.Name(), "t")
	first := must.Get(engine.LoadTable(t.Context(), nil))(t).CurrentSnapshot().SnapshotID
	w.replace("id int64", `{"id":2}`)
	engine.Update(table.NewSetSnapshotRefUpdate("other", first, table.BranchRef, 0, 0, 0))
	must.Do(t, w.commit("other"))
	must.Fail(t, w.commit(table.MainBranch), "are not columns of the table", "commit to the current branch")
	must.Fail(t, w.publish("other"), "are not columns of the table", "make the branch the current one")
	engine.Commit(func(tx *table.Transaction) error { return tx.RollbackToSnapshot(first) })
	tabletest.WantText(t, w.b, "t", "id int64 | 1")
}

// TestFilesOfOtherTypes checks commits of a file whose values the table's columns cannot represent, because the column's type
// was larger when the writer loaded the table, or because the writer is wrong. They must be refused by name. Files that
// are not valid are refused, too.
func TestFilesOfOtherTypes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *lateWriter)
		want   string // the rows, or a part of the error
	}{
		"a restore of a smaller integer": {func(w *lateWriter) {
			w.replace("id int32; v utf8", `{"id":1,"v":"a"}`)
			must.Get(w.b.Snapshot(w.Context(), "s"))(w)
			w.evolve(tables.ColumnChange{Op: "widen", Column: "id", Type: "int64"})
			w.write(`{"id":9000000000,"v":"z"}`)
			must.Do(w, w.b.Restore(w.Context(), "s"))
		}, "id: int64 instead of int32"},
		"integers after a change to floats": {func(w *lateWriter) {
			w.evolve(tables.ColumnChange{Op: "widen", Column: "id", Type: "float64"})
		}, "id: int64 instead of float64"},
		"a larger integer than before": {func(w *lateWriter) {
			w.replace("id int32; v utf8", `{"id":1,"v":"a"}`)
			w.write(`{"id":9,"v":"z"}`)
			w.evolve(tables.ColumnChange{Op: "widen", Column: "id", Type: "int64"})
		}, "1,a | 9,z"},
		"other types under the same IDs":   {func(w *lateWriter) { w.overwrite([]string{"1", "2"}, `[{"id":9,"v":4}]`) }, "v: int64 instead of utf8"},
		"other types under the same names": {func(w *lateWriter) { w.overwrite(nil, `[{"id":9,"v":4}]`) }, "v: int64 instead of utf8"},
		"a damaged file": {func(w *lateWriter) {
			tabletest.Damage(w.T, strings.TrimPrefix(w.file.FilePath(), "file://"), func(b []byte) []byte { return b[:len(b)-4] })
		}, "is corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWriter(t)
			c.change(w)
			before := tabletest.TableText(t, w.b, "t", nil)
			err := w.commit(table.MainBranch)
			after := tabletest.TableText(t, w.b, "t", nil)
			if _, rows, _ := strings.Cut(after, " | "); rows == c.want && err == nil {
				return
			}
			if !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), c.want) || after != before {
				t.Errorf("got error %v and the rows %s, want %s", err, after, c.want)
			}
		})
	}
}

// TestAllFilesAreChecked checks that a commit is refused if only the last of very many files has another type.
func TestAllFilesAreChecked(t *testing.T) {
	w := newLateWriter(t)
	var files []iceberg.DataFile
	for i := range 10_000 {
		name := fmt.Sprint(w.file.FilePath(), i, ".parquet")
		must.Do(t, os.Link(strings.TrimPrefix(w.file.FilePath(), "file://"), strings.TrimPrefix(name, "file://")))
		files = append(files, must.Get(datafile.Rebuild(*iceberg.UnpartitionedSpec, w.file, name))(t).Build())
	}
	w.write(`{"id":9,"v":"z"}`)
	w.overwrite([]string{"1", "2"}, `[{"id":9,"v":4}]`)
	loaded := must.Get(tabletest.NewEngine(t, w.s, "", "t").LoadTable(t.Context(), nil))(t)
	tx := loaded.NewTransaction()
	must.Do(t, tx.AddDataFiles(t.Context(), append(files, w.file), nil, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck()))
	began := time.Now()
	_, err := tx.Commit(t.Context())
	t.Logf("checked %d files in %v", len(files), time.Since(began))
	must.Fail(t, err, "v: int64 instead of utf8", "commit many files")
}

// TestPublishedBranch checks that files that were committed to another branch obey the table's rules when the branch becomes
// the current one, and that a rollback to files from before the rule is possible.
func TestPublishedBranch(t *testing.T) {
	w := newLateWriter(t)
	engine := tabletest.NewEngine(t, w.s, w.b.Name(), "t")
	first := must.Get(engine.LoadTable(t.Context(), nil))(t).CurrentSnapshot().SnapshotID
	for _, branch := range []string{"good", "bad"} {
		engine.Update(table.NewSetSnapshotRefUpdate(branch, first, table.BranchRef, 0, 0, 0))
	}
	must.Do(t, w.commit("bad"))
	w.write(`{"id":3,"v":"c"}`)
	must.Do(t, w.commit("good"))
	w.replace("id int64; v utf8", `{"id":4,"v":"d"}`)
	must.Do(t, w.b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "small", Kind: "range", Column: "id", Min: "2", Max: "5"}}}))
	must.Fail(t, w.publish("bad"), "small", "publish rows that break a rule")
	tabletest.WantText(t, w.b, "t", "id int64; v utf8 | 4,d")
	engine.Commit(func(tx *table.Transaction) error { return tx.RollbackToSnapshot(first) })
	tabletest.WantText(t, w.b, "t", "id int64; v utf8 | 1,a")
	must.Do(t, w.publish("good"))
	tabletest.WantText(t, w.b, "t", "id int64; v utf8 | 1,a | 3,c")
}
