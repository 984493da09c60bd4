package tables_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// createForeign creates table "t" with integer columns as another program would, in a version of Iceberg's format.
func createForeign(t *testing.T, b *tables.Bucket, format string, columns ...string) {
	t.Helper()
	var fields []iceberg.NestedField
	for i, name := range columns {
		fields = append(fields, iceberg.NestedField{ID: i + 1, Name: name, Type: iceberg.PrimitiveTypes.Int64})
	}
	meta, err := table.NewMetadata(iceberg.NewSchema(0, fields...), iceberg.UnpartitionedSpec, table.UnsortedSortOrder, b.Store().Catalog().NewLocation(), iceberg.Properties{"format-version": format})
	if err != nil {
		t.Fatal(err)
	}
	change := &icecat.Change{Namespace: tables.NamespaceOf(b.Name()), Name: "t", New: meta, IOs: []*icecat.FileIO{b.Store().Catalog().NewIO()}}
	if err := b.Store().Catalog().Commit(t.Context(), nil, change); err != nil {
		t.Fatal(err)
	}
}

// deleteByKey adds an equality delete of the rows whose first column, with the given name, has the value key.
func deleteByKey(t *testing.T, s *tables.Store, column string, key int64) {
	t.Helper()
	foreignCommit(t, s, "t", func(tx *table.Transaction) error {
		files, err := tx.WriteEqualityDeletes(t.Context(), []int{1}, func(yield func(arrow.RecordBatch, error) bool) { yield(oneColumn(column, key), nil) })
		if err != nil {
			return err
		}
		return tx.NewRowDelta(nil).AddDeletes(files...).Commit(t.Context())
	})
}

// TestChangesWithoutNumbers checks that a table without version numbers is refused. Its Changes.Version would always be
// 0, so a consumer would insert all rows again and again.
func TestChangesWithoutNumbers(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	createForeign(t, b, "1", "k")
	putJSON(t, b, "t", `[{"k":1}]`, tabletest.Nullable("k", arrow.PrimitiveTypes.Int64))
	for _, since := range []tables.At{nil, tables.AtVersion(0)} {
		if _, err := b.Table("t").Changes(t.Context(), since, nil); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "upgrade the table") {
			t.Errorf("changes of a table of format version 1: error %v, want ErrUnsupported with advice", err)
		}
	}
	foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.UpgradeFormatVersion(2) })
	putJSON(t, b, "t", `[{"k":2}]`, tabletest.Nullable("k", arrow.PrimitiveTypes.Int64))
	if v := wantChanges(t, b, nil, nil, "1 insert; 2 insert"); v != 1 {
		t.Errorf("after the upgrade, the changes lead to version %d, want 1", v)
	}
}

// TestChangesAfterPartitioning checks equality deletes before and after a change of the partition spec. The later
// deletes do not apply to files of the earlier spec.
func TestChangesAfterPartitioning(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	createForeign(t, b, "2", "k", "v")
	fields := []arrow.Field{tabletest.Nullable("k", arrow.PrimitiveTypes.Int64), tabletest.Nullable("v", arrow.PrimitiveTypes.Int64)}
	putJSON(t, b, "t", `[{"k":1,"v":1},{"k":2,"v":2},{"k":3,"v":3}]`, fields...)
	deleteByKey(t, s, "k", 2)
	foreignCommit(t, s, "t", func(tx *table.Transaction) error {
		return tx.UpdateSpec(true).AddField("k", iceberg.BucketTransform{NumBuckets: 2}, "k_bucket").Commit()
	})
	putJSON(t, b, "t", `[{"k":1,"v":10},{"k":2,"v":20},{"k":3,"v":30}]`, fields...)
	deleteByKey(t, s, "k", 3)
	deleteByKey(t, s, "k", 1)
	wantChanges(t, b, tables.AtVersion(1), nil, "2 2 delete; 2 20 insert")
	wantChanges(t, b, tables.AtVersion(2), nil, "2 20 insert")
	wantChanges(t, b, tables.AtVersion(3), nil, "1 10 delete; 3 30 delete")
	wantChanges(t, b, tables.AtVersion(4), nil, "1 10 delete")
}

// TestChangesAfterRollback checks that a consumer follows a table that another program rolls back.
func TestChangesAfterRollback(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for n := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, n)
	}
	foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.RollbackToSnapshot(snapshotIDs(t, b)[0]) })
	if v := wantChanges(t, b, tables.AtVersion(3), nil, "1 row 1 delete; 2 row 2 delete"); v != 1 {
		t.Errorf("after the rollback, the changes lead to version %d, want 1", v)
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 5)
	if v := wantChanges(t, b, tables.AtVersion(1), nil, "5 row 5 insert"); v != 4 {
		t.Errorf("after a put, the changes lead to version %d, want 4", v)
	}
	wantChanges(t, b, tables.AtVersion(2), nil, "1 row 1 delete; 5 row 5 insert")
}

func snapshotIDs(t *testing.T, b *tables.Bucket) (ids []int64) {
	t.Helper()
	v, err := tableAt(t, b, "t", nil).View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range v.Table().Metadata().Snapshots() {
		ids = append(ids, s.SnapshotID)
	}
	return ids
}

// TestChangesWithFileTwice checks the changes of a table after another program has added the same file to it twice.
func TestChangesWithFileTwice(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	path := tabletest.FilesOf(t, b, "t")[0]
	tabletest.Put(t, b, "t", tables.PutReplace, 2)
	add := func() {
		foreignCommit(t, s, "t", func(tx *table.Transaction) error { return tx.AddFiles(t.Context(), []string{path}, nil, true) })
	}
	add()
	tabletest.Put(t, b, "t", tables.PutAppend, 3)
	add()
	wantChanges(t, b, tables.AtVersion(2), nil, "1 row 1 insert; 1 row 1 insert; 3 row 3 insert")
	wantChanges(t, b, tables.AtVersion(4), nil, "1 row 1 insert")
}

// TestChangesOfWideRows checks that many copies of a wide row are split into several batches.
func TestChangesOfWideRows(t *testing.T) {
	const count, width = 2000, 16 << 10
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	wide := array.NewRecordBuilder(memory.DefaultAllocator, tabletest.Numbers)
	wide.Field(0).(*array.Int64Builder).AppendValues(make([]int64, count), nil)
	wide.Field(1).(*array.StringBuilder).AppendValues(slices.Repeat([]string{strings.Repeat("x", width)}, count), nil)
	tabletest.PutRows(t, b, "t", tabletest.OneBatch(wide.NewRecordBatch()), tables.PutReplace, nil)
	r, err := b.Table("t").Changes(t.Context(), tables.AtVersion(1), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
		if n := datafile.SizeOf(r.RecordBatch()); n > 2*tables.MaxChangedBytes {
			t.Fatalf("a batch has %d bytes, want about %d", n, tables.MaxChangedBytes)
		}
	}
	if r.Err() != nil || rows != count+1 {
		t.Errorf("got %d changes, error %v; want %d", rows, r.Err(), count+1)
	}
}

// TestChangesAfterExpire checks that an open reader's files stay when the table's versions expire, and that Release removes
// the temporary files and no longer protects the table's files.
func TestChangesAfterExpire(t *testing.T) {
	const rows, limit = 40_000, 1 << 40
	ctx := t.Context()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20})
	b := s.Bucket("")
	for i, prefix := range []string{"old", "new"} {
		tabletest.PutRows(t, b, "t", longRows(prefix, 1, 0, rows), []tables.PutMode{tables.PutAppend, tables.PutReplace}[i], nil)
	}
	open := func() *tables.Changes {
		t.Helper()
		r, err := b.Table("t").Changes(ctx, tables.AtVersion(1), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	complete, early := open(), open()
	tabletest.PutRows(t, b, "t", longRows("newer", 1, 0, 1), tables.PutReplace, nil)
	if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1, Keep: 1}); err != nil {
		t.Fatal(err)
	}
	count := int64(0)
	for complete.Next() {
		count += complete.RecordBatch().NumRows()
	}
	if complete.Err() != nil || count != 2*rows {
		t.Errorf("after the versions expired, an open reader got %d changes, error %v; want %d", count, complete.Err(), 2*rows)
	}
	complete.Release()
	spill.Process.SetLimit(limit)
	defer spill.Process.SetLimit(0)
	inUse := func() bool {
		if err := spill.Process.Take(limit); err != nil {
			return true
		}
		spill.Process.Release(limit)
		return false
	}
	if !early.Next() || !inUse() {
		t.Fatal("the changes did not need temporary files")
	}
	early.Release()
	if pins, _ := s.Commits().Pinned(); pins != 0 || inUse() {
		t.Errorf("after Release, %d readers protect files, and temporary files exist: %v", pins, inUse())
	}
}
