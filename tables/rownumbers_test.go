package tables_test

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

var lineageFields = arrow.NewSchema([]arrow.Field{
	tabletest.Nullable("n", arrow.PrimitiveTypes.Int64),
	{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_ns}, // requires format version 3
	tabletest.Nullable("x", arrow.PrimitiveTypes.Int32),
	tabletest.Nullable("y", arrow.PrimitiveTypes.Int32),
}, nil)

// lineageRows returns rows with n = first, first+step and so on. Their times are in the order of n.
func lineageRows(first, step int64, count int) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, lineageFields)
	defer b.Release()
	for i := range int64(count) {
		n := first + i*step
		b.Field(0).(*array.Int64Builder).Append(n)
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(day0.Add(time.Duration(n) * time.Minute).UnixNano()))
		b.Field(2).(*array.Int32Builder).Append(int32(n))
		b.Field(3).(*array.Int32Builder).Append(int32(n))
	}
	return tabletest.OneBatch(b.NewRecordBatch())
}

// lineage is a row's ID, and the sequence number of the commit that last updated the row.
type lineage struct{ id, sequence int64 }

// lineageOf returns the lineage of each row by its n, as Iceberg's library reads it. It checks that all IDs differ.
func lineageOf(t *testing.T, b *tables.Bucket) map[int64]lineage {
	t.Helper()
	v := must.Get(b.Table("t").View(t.Context(), false))(t)
	columns, rows, err := v.Table().Scan(table.WithRowLineage()).ToArrowRecords(t.Context())
	must.Do(t, err)
	index := func(name string) int { return columns.FieldIndices(name)[0] }
	all, ids := map[int64]lineage{}, map[int64]bool{}
	for batch, err := range rows {
		must.Do(t, err)
		n := batch.Column(index("n")).(*array.Int64)
		id := batch.Column(index(iceberg.RowIDColumnName)).(*array.Int64)
		sequence := batch.Column(index(iceberg.LastUpdatedSequenceNumberColumnName)).(*array.Int64)
		for i := range n.Len() {
			if id.IsNull(i) || sequence.IsNull(i) || ids[id.Value(i)] {
				t.Errorf("row %d has ID %s and sequence number %s, want a unique ID and a number", n.Value(i), id.ValueStr(i), sequence.ValueStr(i))
			}
			all[n.Value(i)], ids[id.Value(i)] = lineage{id.Value(i), sequence.Value(i)}, true
		}
	}
	return all
}

// createPartitioned creates a table with the columns of lineageFields, partitioned by hashes of n.
func createPartitioned(t *testing.T, b *tables.Bucket) {
	t.Helper()
	var fields []iceberg.NestedField
	types := []iceberg.Type{iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.TimestampTzNs, iceberg.PrimitiveTypes.Int32, iceberg.PrimitiveTypes.Int32}
	for i, f := range lineageFields.Fields() {
		fields = append(fields, iceberg.NestedField{ID: i + 1, Name: f.Name, Type: types[i], Required: !f.Nullable})
	}
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "n_bucket", Transform: iceberg.BucketTransform{NumBuckets: 2}})
	createIceberg(t, b, iceberg.NewSchema(0, fields...), &spec, 3)
}

// TestRowIDs checks that rows keep their IDs and sequence numbers when an operation moves them to other files, that new
// rows get new IDs, and that scans return neither.
func TestRowIDs(t *testing.T) {
	t.Parallel()
	operations := map[string]struct {
		new []int64 // n of the rows that the operation adds, some of which replace rows
		do  func(b *tables.Bucket) error
	}{
		"compact": {nil, func(b *tables.Bucket) error { _, err := b.Store().Compact(t.Context(), nil); return err }},
		"delete rows": {nil, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n = 0 or n = 5 or n = 11")))
		}},
		"upsert": {[]int64{3, 100}, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Upsert(t.Context(), lineageRows(3, 97, 2), &tables.UpsertOptions{Keys: []string{"n"}}))
		}},
		"upsert that widens": {[]int64{4}, func(b *tables.Bucket) error {
			rows := rowsOfJSON(t, `[{"n":4,"at":"2024-01-01T00:04:00Z","x":1.5}]`, lineageFields.Field(0), lineageFields.Field(1), tabletest.Nullable("x", arrow.PrimitiveTypes.Float64))
			return must.Err(b.Table("t").Upsert(t.Context(), rows, &tables.UpsertOptions{Keys: []string{"n"}}))
		}},
		"replace range": {[]int64{4, 5}, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").ReplaceRange(t.Context(), day0.Add(4*time.Minute), day0.Add(7*time.Minute), lineageRows(4, 1, 2), nil))
		}},
		"evolve": {nil, func(b *tables.Bucket) error {
			column := "x"
			if schema := mustSchema(t, b); schema.Field(2).Type.ID() == arrow.FLOAT64 { // the second round
				column = "y"
			}
			return b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: column, Type: "float64"})
		}},
		"partition": {nil, func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Partition(t.Context(), tables.PartitionDay))
		}},
		"keep last": {[]int64{2, 8}, func(b *tables.Bucket) error {
			if err := b.Table("t").SetSettings(t.Context(), tables.Settings{Time: "at", OnDuplicate: tables.KeepLast}); err != nil {
				return err
			}
			return must.Err(b.Table("t").Put(t.Context(), lineageRows(2, 6, 2), tables.PutAppend, nil))
		}},
		"order": {nil, func(b *tables.Bucket) error {
			return b.Table("t").SetSettings(t.Context(), tables.Settings{Time: "at", Keys: []string{"n"}})
		}},
		"copy": {nil, func(b *tables.Bucket) error {
			if _, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n < 11")); err != nil {
				return err
			}
			to := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
			if _, err := b.Store().CopyTo(t.Context(), to); err != nil {
				return err
			}
			*b = *to.Bucket(b.Name())
			return nil
		}},
	}
	for layout, settings := range map[string]*tables.Settings{"unordered": {Evolution: tables.Flexible}, "ordered": {Time: "at", Evolution: tables.Flexible}, "partitioned": nil} {
		for name, op := range operations {
			if name == "partition" && layout != "ordered" || layout == "partitioned" && !slices.Contains([]string{"compact", "delete rows", "upsert", "replace range"}, name) {
				continue
			}
			t.Run(layout+" "+name, func(t *testing.T) {
				b := tabletest.BucketWithoutTail(t)
				if layout == "partitioned" {
					createPartitioned(t, b)
				}
				put := func(first, step int64, count int) {
					t.Helper()
					tabletest.PutRows(t, b, "t", lineageRows(first, step, count), tables.PutAppend, nil)
				}
				tabletest.PutRows(t, b, "t", lineageRows(0, 2, 6), tables.PutAppend, &tables.PutOptions{Settings: settings})
				put(1, 2, 6)
				for round := range 2 {
					before, nextID := lineageOf(t, b), int64(0)
					for _, l := range before {
						nextID = max(nextID, l.id+1)
					}
					must.Do(t, op.do(b))
					after := lineageOf(t, b)
					for n, l := range after {
						if old, exists := before[n]; exists && !slices.Contains(op.new, n) {
							if l != old {
								t.Errorf("round %d: row %d has lineage %v, want %v as before", round, n, l, old)
							}
						} else if l.id < nextID {
							t.Errorf("round %d: new row %d has ID %d, want at least %d", round, n, l.id, nextID)
						}
					}
					for _, n := range op.new {
						if _, exists := after[n]; !exists {
							t.Errorf("round %d: row %d is missing, want only these: %v", round, n, slices.Sorted(maps.Keys(after)))
						}
					}
					first := 1000 + 10*int64(round)
					put(first, 1, 3)
					for n, l := range lineageOf(t, b) {
						if n >= first && l.id < nextID {
							t.Errorf("round %d: the appended row %d has ID %d, want at least %d", round, n, l.id, nextID)
						}
					}
				}
				if columns := mustSchema(t, b); columns.NumFields() != lineageFields.NumFields() {
					t.Errorf("a scan returns the columns %v, want those that were put", columns)
				}
			})
		}
	}
}

// mustSchema returns the columns that a scan of b's table returns.
func mustSchema(t *testing.T, b *tables.Bucket) *arrow.Schema {
	t.Helper()
	r := must.Get(b.Table("t").Scan(t.Context(), nil))(t)
	defer r.Release()
	return r.Schema()
}

// createIceberg creates table "t" as another program would.
func createIceberg(t *testing.T, b *tables.Bucket, columns *iceberg.Schema, spec *iceberg.PartitionSpec, formatVersion int) {
	t.Helper()
	meta := must.Get(table.NewMetadata(columns, spec, table.UnsortedSortOrder, b.Store().Catalog().NewLocation(), iceberg.Properties{"format-version": strconv.Itoa(formatVersion)}))(t)
	change := &icecat.Change{Namespace: tables.NamespaceOf(b.Name()), Name: "t", New: meta, IOs: []*icecat.FileIO{b.Store().Catalog().NewIO()}}
	must.Do(t, b.Store().Catalog().Commit(t.Context(), nil, change))
}

// TestRowIDsAfterUpgrade checks that rows have unique IDs after a column change upgrades their table to format version
// 3.
func TestRowIDsAfterUpgrade(t *testing.T) {
	t.Parallel()
	add := tables.ColumnChange{Op: tables.AddColumn, Column: "at", Type: tables.ColumnTypeOf(arrow.FixedWidthTypes.Timestamp_ns)}
	for name, change := range map[string]func(b *tables.Bucket) error{
		"append":                      func(b *tables.Bucket) error { tabletest.Put(t, b, "t", tables.PutAppend, 41, 42); return nil },
		"append to a merged manifest": func(b *tables.Bucket) error { tabletest.Put(t, b, "t", tables.PutAppend, 41, 42); return nil },
		"delete": func(b *tables.Bucket) error {
			return must.Err(b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n = 1 or n = 12")))
		},
		"compact": func(b *tables.Bucket) error { _, err := b.Store().Compact(t.Context(), nil); return err },
		"upsert": func(b *tables.Bucket) error {
			return must.Err(b.Table("t").Upsert(t.Context(), tabletest.Rows(1, 30), &tables.UpsertOptions{Keys: []string{"n"}}))
		},
		"restore": func(b *tables.Bucket) error { return b.Restore(t.Context(), "old") },
	} {
		t.Run(name, func(t *testing.T) {
			b := tabletest.BucketWithoutTail(t)
			tabletest.Put(t, b, "t", tables.PutAppend, 1, 2, 3)
			tabletest.Put(t, b, "t", tables.PutAppend, 11, 12, 13)
			if name == "append to a merged manifest" {
				foreignUpdate(t, b, "t", table.NewSetPropertiesUpdate(iceberg.Properties{table.ManifestMinMergeCountKey: "2"}))
			}
			tabletest.Snapshot(t, b, "old")
			must.Do(t, b.Table("t").Evolve(t.Context(), add))
			must.Do(t, change(b))
			lineageOf(t, b)
			tabletest.Put(t, b, "t", tables.PutAppend, 21, 22, 23, 24)
			tabletest.Put(t, b, "t", tables.PutAppend, 31)
			lineageOf(t, b)
		})
	}
}

// foreignUpdate updates the metadata of a table as another program would.
func foreignUpdate(t *testing.T, b *tables.Bucket, name string, updates ...table.Update) {
	t.Helper()
	c, namespace := b.Store().Catalog(), tables.NamespaceOf(b.Name())
	base := must.Get(c.Load(t.Context(), namespace, name))(t)
	meta := must.Get(table.UpdateTableMetadata(base.Metadata(), updates, ""))(t)
	must.Do(t, c.Commit(t.Context(), nil, &icecat.Change{Namespace: namespace, Name: name, Base: base, New: meta, IOs: []*icecat.FileIO{c.NewIO()}}))
}

// TestNoRowIDs checks that below format version 3, files have only the table's columns after an operation moved rows to
// them.
func TestNoRowIDs(t *testing.T) {
	t.Parallel()
	for version := 1; version <= 2; version++ {
		b := tabletest.BucketWithoutTail(t)
		columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
		createIceberg(t, b, columns, iceberg.UnpartitionedSpec, version)
		tabletest.Put(t, b, "t", tables.PutAppend, 1, 2)
		tabletest.Put(t, b, "t", tables.PutAppend, 3)
		if r, err := b.Store().Compact(t.Context(), nil); err != nil || r.FilesAfter != 1 {
			t.Fatalf("version %d: Compact = %+v, %v; want one file", version, r, err)
		}
		tabletest.DeleteRows(t, b, "t", "n = 1")
		v := must.Get(b.Table("t").View(t.Context(), false))(t)
		if v.Table().Metadata().Version() != version {
			t.Errorf("the table has format version %d, want %d", v.Table().Metadata().Version(), version)
		}
		for _, path := range tabletest.FilesOf(t, b, "t") {
			in := must.Get(v.Table().FS(t.Context()))(t)
			f := must.Get(in.Open(path))(t)
			r := must.Get(file.NewParquetReader(f))(t)
			if n := r.MetaData().Schema.NumColumns(); n != 2 {
				t.Errorf("version %d: a file has the columns %v, want n and s", version, r.MetaData().Schema)
			}
			_ = r.Close()
		}
	}
}

// TestFormat1Versions checks that puts to tables whose Iceberg format does not number versions return version 0, and
// that AtTime selects the snapshot of the moment.
func TestFormat1Versions(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}, iceberg.NestedField{ID: 2, Name: "s", Type: iceberg.PrimitiveTypes.String})
	createIceberg(t, s.Bucket(""), columns, iceberg.UnpartitionedSpec, 1)
	table := s.Bucket("").Table("t")
	var moments []time.Time
	for n := range int64(4) {
		if v, err := table.Put(t.Context(), tabletest.Rows(n), tables.PutAppend, nil); v != 0 || err != nil {
			t.Fatalf("Put = version %d, error %v; want version 0", v, err)
		}
		time.Sleep(2 * time.Millisecond)
		moments = append(moments, time.Now())
		time.Sleep(2 * time.Millisecond)
		tabletest.Fold(t, s)
	}
	for i, moment := range moments {
		old := must.Get(table.At(t.Context(), tables.AtTime(moment)))(t)
		if ns, err := tabletest.ReadAll(t.Context(), old, nil); err != nil || len(ns) != i+1 {
			t.Errorf("AtTime after %d puts read rows %v, error %v", i+1, ns, err)
		}
	}
}
