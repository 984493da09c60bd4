package tables_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
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
	tab := b.Table("t")
	v, err := tab.View(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	columns, rows, err := v.Table().Scan(table.WithRowLineage()).ToArrowRecords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	index := func(name string) int { return columns.FieldIndices(name)[0] }
	all, ids := map[int64]lineage{}, map[int64]bool{}
	for batch, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
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
			_, err := b.Table("t").DeleteRows(t.Context(), tabletest.ParseFilter(t, "n = 0 or n = 5 or n = 11"))
			return err
		}},
		"upsert": {[]int64{3, 100}, func(b *tables.Bucket) error {
			_, err := b.Table("t").Upsert(t.Context(), lineageRows(3, 97, 2), &tables.UpsertOptions{Keys: []string{"n"}})
			return err
		}},
		"upsert that widens": {[]int64{4}, func(b *tables.Bucket) error {
			rows := rowsOfJSON(t, `[{"n":4,"at":"2024-01-01T00:04:00Z","x":1.5}]`, lineageFields.Field(0), lineageFields.Field(1), tabletest.Nullable("x", arrow.PrimitiveTypes.Float64))
			_, err := b.Table("t").Upsert(t.Context(), rows, &tables.UpsertOptions{Keys: []string{"n"}})
			return err
		}},
		"replace range": {[]int64{4, 5}, func(b *tables.Bucket) error {
			_, err := b.Table("t").ReplaceRange(t.Context(), day0.Add(4*time.Minute), day0.Add(7*time.Minute), lineageRows(4, 1, 2), nil)
			return err
		}},
		"evolve": {nil, func(b *tables.Bucket) error {
			column := "x"
			if schema := mustSchema(t, b); schema.Field(2).Type.ID() == arrow.FLOAT64 { // the second round
				column = "y"
			}
			return b.Table("t").Evolve(t.Context(), tables.ColumnChange{Op: "widen", Column: column, Type: "float64"})
		}},
		"partition": {nil, func(b *tables.Bucket) error {
			_, err := b.Table("t").Partition(t.Context(), tables.PartitionDay)
			return err
		}},
		"keep last": {[]int64{2, 8}, func(b *tables.Bucket) error {
			if err := b.Table("t").SetSettings(t.Context(), tables.Settings{Time: "at", OnDuplicate: tables.KeepLast}); err != nil {
				return err
			}
			_, err := b.Table("t").Put(t.Context(), lineageRows(2, 6, 2), tables.PutAppend, nil)
			return err
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
					if err := op.do(b); err != nil {
						t.Fatal(err)
					}
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
	tab := b.Table("t")
	r, err := tab.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	return r.Schema()
}
