package tables_test

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestUpsert(t *testing.T) {
	ctx := t.Context()
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(10*i, 10)...)
		tabletest.Fold(t, b.Store())
	}
	tabletest.Put(t, b, "t", tables.PutAppend, 5, 100) // row 5 now occurs twice, once in the tail
	before := tabletest.FilesOf(t, b, "t")
	result, err := b.Table("t").Upsert(ctx, tabletest.Rows(5, 15, 200), &tables.UpsertOptions{Keys: []string{"n"}})
	if err != nil || result.Deleted != 3 || result.Written != 3 {
		t.Fatalf("Upsert = %+v, %v; want Deleted 3 and Written 3", result, err)
	}
	want := append(tabletest.Sequence(0, 30), 100, 200)
	tabletest.WantRows(t, b, "t", want...)
	if after := tabletest.FilesOf(t, b, "t"); !slices.Contains(after, before[2]) {
		t.Errorf("files before: %q, after: %q; the file without the keys should not have been rewritten", before, after)
	}
	if _, err := b.Table("t").Upsert(ctx, tabletest.Rows(1, 2, 1), &tables.UpsertOptions{Keys: []string{"n", "s"}}); err == nil || !strings.Contains(err.Error(), "rows 1 and 3") {
		t.Errorf("Upsert with the same key twice: error = %v, want an error for rows 1 and 3", err)
	}
	if _, err := b.Table("t").Upsert(ctx, tabletest.Rows(1), nil); err == nil {
		t.Error("Upsert without keys succeeded, want an error")
	}
	var schemaErr *tables.SchemaError
	if _, err := b.Table("t").Upsert(ctx, tabletest.Rows(1), &tables.UpsertOptions{Keys: []string{"x"}}); !errors.As(err, &schemaErr) {
		t.Errorf("Upsert with a missing key column: error = %v, want a SchemaError", err)
	}
	null := array.NewRecordBuilder(memory.DefaultAllocator, tabletest.Numbers)
	null.Field(0).AppendNull()
	null.Field(1).AppendNull()
	if _, err := b.Table("t").Upsert(ctx, tabletest.OneBatch(null.NewRecordBatch()), &tables.UpsertOptions{Keys: []string{"n"}}); !errors.As(err, &schemaErr) {
		t.Errorf("Upsert with a null key: error = %v, want a SchemaError", err)
	}
	tabletest.WantRows(t, b, "t", want...)
	ruled := &tables.PutOptions{Settings: &tables.Settings{Time: "at", Keys: []string{"sym"}, OnDuplicate: tables.KeepLast}}
	tabletest.PutRows(t, b, "ruled", ticksAt(ticks(arrow.Second, ""), 1, 1, 2), tables.PutAppend, ruled)
	if _, err := b.Table("ruled").Upsert(ctx, ticksAt(ticks(arrow.Second, ""), 1, 2), &tables.UpsertOptions{Keys: []string{"n"}}); !errors.As(err, &schemaErr) {
		t.Errorf("Upsert with keys other than those of the rule for duplicates: error = %v, want a SchemaError", err)
	}
}

// TestUpsertKeys checks that Upsert replaces the right rows, for keys of every type that is allowed for keys.
func TestUpsertKeys(t *testing.T) {
	for _, typ := range []arrow.DataType{
		arrow.FixedWidthTypes.Boolean, arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64, arrow.PrimitiveTypes.Int64,
		arrow.BinaryTypes.String, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.Binary, &arrow.FixedSizeBinaryType{ByteWidth: 3},
		arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Timestamp_ms, arrow.FixedWidthTypes.Timestamp_ns, arrow.FixedWidthTypes.Time64us,
		&arrow.Decimal128Type{Precision: 10, Scale: 2}, arrow.FixedWidthTypes.Duration_ms, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String},
	} {
		t.Run(typ.String(), func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: typ, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
			rows := func(n int64, keys ...string) array.RecordReader {
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				for _, k := range keys {
					if err := b.Field(0).AppendValueFromString(k); err != nil {
						t.Fatal(err)
					}
					b.Field(1).(*array.Int64Builder).Append(n)
				}
				return tabletest.OneBatch(b.NewRecordBatch())
			}
			keys := []string{"1", "2", "3"}
			switch typ.ID() {
			case arrow.BOOL:
				keys = []string{"true", "false"}
			case arrow.BINARY:
				keys = []string{"AA==", "AAA=", "/w=="}
			case arrow.FIXED_SIZE_BINARY:
				keys = []string{"AAAA", "AAAB", "////"}
			case arrow.DATE32:
				keys = []string{"1960-01-01", "2000-01-01", "2024-02-29"}
			case arrow.TIMESTAMP:
				keys = []string{"1960-01-01 00:00:00Z", "2000-01-01 00:00:00.001Z", "2024-02-29 01:00:00Z"}
			case arrow.TIME64:
				keys = []string{"00:00:00", "01:00:00.000001", "23:00:00"}
			case arrow.DECIMAL128:
				keys = []string{"-1.00", "2.50", "3.25"}
			case arrow.DURATION:
				keys = []string{"1ms", "2ms", "3ms"}
			}
			b := tabletest.BucketWithoutTail(t)
			for _, k := range keys {
				if _, err := b.Table("t").Put(t.Context(), rows(1, k), tables.PutAppend, nil); err != nil {
					t.Skip(err)
				}
			}
			result, err := b.Table("t").Upsert(t.Context(), rows(2, keys[0], keys[len(keys)-1]), &tables.UpsertOptions{Keys: []string{"k"}})
			if err != nil || result.Deleted != 2 || result.Written != 2 {
				t.Fatalf("Upsert = %+v, %v; want Deleted 2 and Written 2", result, err)
			}
			got := tabletest.ColumnTexts(t, b, "t", "n")
			slices.Sort(got)
			if want := append(slices.Repeat([]string{"1"}, len(keys)-2), "2", "2"); !slices.Equal(got, want) {
				t.Errorf("column n is %q after the upsert, want %q", got, want)
			}
		})
	}
}

// TestUpsertManyKeys compares an upsert whose keys do not fit in memory with a model, for tables with and without an order. A
// concurrent deletion makes the upsert start again.
func TestUpsertManyKeys(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	text := func(n int64) string { return strings.Repeat("k", int(n%5)) + strconv.FormatInt(n, 10) }
	read := func(first, step, count, value int64) array.RecordReader {
		b := array.NewRecordBuilder(memory.DefaultAllocator, lineageFields)
		b2 := array.NewStringBuilder(memory.DefaultAllocator)
		for i := range count {
			n := (first + i*step) % (2 * rows)
			b.Field(0).(*array.Int64Builder).Append(n)
			b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(n))
			b.Field(2).(*array.Int32Builder).Append(int32(value))
			b.Field(3).(*array.Int32Builder).Append(0)
			b2.Append(text(n))
		}
		batch := b.NewRecordBatch()
		fields := append(lineageFields.Fields(), tabletest.Nullable("s", arrow.BinaryTypes.String))
		return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema(fields, nil), append(batch.Columns(), b2.NewArray()), count))
	}
	for name, settings := range map[string]tables.Settings{"unordered": {}, "ordered": {Time: "at"}, "keep last": {Time: "at", Keys: []string{"n"}, OnDuplicate: tables.KeepLast}} {
		t.Run(name, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20})
			b := s.Bucket("")
			model, o := map[int64]int32{}, &tables.PutOptions{Settings: &settings}
			for first := range int64(2) {
				tabletest.PutRows(t, b, "t", read(first, 2, rows/2, 1), tables.PutAppend, o)
				o = nil
				for i := range int64(rows / 2) {
					model[first+2*i] = 1
				}
			}
			isDeleted := false
			upserting, err := tables.OpenHooked(t.Context(), s.Dir(), &tables.Options{NoTail: true, Memory: 1 << 20}, tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
				if !isDeleted {
					isDeleted = true
					tabletest.DeleteRows(t, b, "t", "n = 7")
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer upserting.Close() //nolint:errcheck // the test is over
			delete(model, 7)
			keys := []string{"s", "n"}
			if name == "keep last" {
				keys = nil
			}
			replaced := int64(0)
			upserted := read(5, 7, rows, 2) // 7 and 2·rows have no common divisor, so the keys differ
			for i := range int64(rows) {
				n := (5 + 7*i) % (2 * rows)
				if _, exists := model[n]; exists {
					replaced++
				}
				model[n] = 2
			}
			result, err := upserting.Bucket("").Table("t").Upsert(t.Context(), upserted, &tables.UpsertOptions{Keys: keys})
			if err != nil || !isDeleted || result.Deleted != replaced || result.Written != rows {
				t.Fatalf("Upsert = %+v, %v; want Deleted %d and Written %d", result, err, replaced, rows)
			}
			got := map[int64]int32{}
			tab := b.Table("t")
			r, err := tab.Scan(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Release()
			count := int64(0)
			for r.Next() {
				count += r.RecordBatch().NumRows()
				for i := range int(r.RecordBatch().NumRows()) {
					got[r.RecordBatch().Column(0).(*array.Int64).Value(i)] = r.RecordBatch().Column(2).(*array.Int32).Value(i)
				}
			}
			if r.Err() != nil || count != int64(len(model)) || !maps.Equal(got, model) {
				t.Errorf("the table has %d rows with %d keys (error %v), want the model's %d", count, len(got), r.Err(), len(model))
			}
			repeated := read(0, 1, rows+1, 3)
			repeated.Next()
			twice, err := array.NewRecordReader(repeated.Schema(), []arrow.RecordBatch{repeated.RecordBatch(), repeated.RecordBatch().NewSlice(700, 701)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Table("t").Upsert(t.Context(), twice, &tables.UpsertOptions{Keys: keys}); err == nil || !strings.Contains(err.Error(), "rows 701 and 20002 have the same key: remove") {
				t.Errorf("an upsert with a repeated key returned the error %v, want one with the rows' numbers, and without the key, because the keys are in a temporary file", err)
			}
		})
	}
}

// TestUpsertFiles checks that the number of files with replaced rows is the same whether the keys fit in memory or not. A
// second file, whose time overlaps, is rewritten with the first in only one case, and contains no replaced row.
func TestUpsertFiles(t *testing.T) {
	for _, memory := range []int64{1 << 20, 64 << 20} {
		b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: memory}).Bucket("")
		rows := make([]tick, 20_000)
		for i := range rows {
			rows[i] = tick{int64(i), "a", int64(i), 0}
		}
		o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts"}}
		tabletest.PutRows(t, b, "t", ticksOf(rows, len(rows)), tables.PutAppend, o)
		tabletest.PutRows(t, b, "t", ticksOf([]tick{{5, "b", 5, 0}}, 1), tables.PutAppend, nil)
		r, err := b.Table("t").Upsert(t.Context(), ticksOf(rows, len(rows)), &tables.UpsertOptions{Keys: []string{"ts", "k"}})
		if err != nil || r.Deleted != 20_000 || r.Files != 1 {
			t.Errorf("upsert with %d MiB: got %+v, %v, want 20,000 rows deleted in 1 file", memory>>20, r, err)
		}
	}
}

// TestUpsertManyKeysUnderRule checks that an upsert is refused if its keys do not fit in memory, and a rule compares
// rows with the table.
func TestUpsertManyKeysUnderRule(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, 1)
	rule := tables.Rule{Name: "u", Kind: "unique", Columns: []string{"s"}, InTable: true}
	if err := b.Table("t").EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{rule}}); err != nil {
		t.Fatal(err)
	}
	keys := &tables.UpsertOptions{Keys: []string{"n"}}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(tabletest.Sequence(0, 20_000)...), keys); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Upsert of many keys: error = %v, want ErrTooLarge", err)
	}
	if _, err := b.Table("t").Upsert(t.Context(), tabletest.Rows(1, 2), keys); err != nil {
		t.Errorf("Upsert of two keys: %v", err)
	}
	tabletest.WantRows(t, b, "t", 1, 2)
}

// TestUpsertLongKeys checks that an upsert whose keys are in a temporary file ignores keys of the table that are too
// long for the sorter.
func TestUpsertLongKeys(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true, Memory: 1 << 20}).Bucket("")
	keys := array.NewStringBuilder(memory.DefaultAllocator)
	read := func() array.RecordReader {
		a := keys.NewArray()
		return tabletest.OneBatch(array.NewRecordBatch(arrow.NewSchema([]arrow.Field{tabletest.Nullable("s", arrow.BinaryTypes.String)}, nil), []arrow.Array{a}, int64(a.Len())))
	}
	keys.AppendValues([]string{strings.Repeat("k", 1<<16), "7"}, nil)
	tabletest.PutRows(t, b, "t", read(), tables.PutAppend, nil)
	for i := range 20_000 {
		keys.Append(strconv.Itoa(i))
	}
	result, err := b.Table("t").Upsert(t.Context(), read(), &tables.UpsertOptions{Keys: []string{"s"}})
	if err != nil || result.Deleted != 1 || result.Written != 20_000 {
		t.Errorf("Upsert = %+v, %v; want Deleted 1 and Written 20000", result, err)
	}
}
