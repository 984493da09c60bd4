package tables_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestInvalidOpenOptions(t *testing.T) {
	for want, o := range map[string]*tables.Options{
		"Tail and NoTail":          {NoTail: true, Tail: partd.NewDict()},
		"option Memory is -64 ":    {Memory: -64},
		"option FoldBytes is -64:": {FoldBytes: -64},
	} {
		must.Fail(t, must.Err(tables.Open(t.Context(), t.TempDir(), o)), want, "Open")
	}
}

func TestInvalidPutOptions(t *testing.T) {
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	v := tables.Version(1)
	for _, c := range []struct {
		mode tables.PutMode
		o    *tables.PutOptions
	}{{7, nil}, {tables.PutAppend, &tables.PutOptions{Over: &v}}} {
		_, err := b.Table("t").Put(t.Context(), tabletest.Rows(1), c.mode, c.o)
		if !errors.As(err, new(*tables.ArgumentError)) {
			t.Errorf("Put with mode %d and options %+v: error = %v, want an ArgumentError", c.mode, c.o, err)
		}
	}
}

// TestPutMustExist checks that a put with MustExist does not create the table, even if the table is deleted while
// the rows arrive.
func TestPutMustExist(t *testing.T) {
	rows := tabletest.Rows(make([]int64, 10_000)...)
	rows.Next()
	batch := rows.RecordBatch()
	for name, fold := range map[string]int64{"few rows": 0, "many rows": 1 << 10} {
		for _, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace} {
			bucket := tabletest.Open(t, t.TempDir(), &tables.Options{FoldBytes: fold}).Bucket("")
			put := func(o *tables.PutOptions, beforeLastBatch func()) error {
				_, err := bucket.Table("t").Put(t.Context(), array.ReaderFromIter(rows.Schema(), func(yield func(arrow.RecordBatch, error) bool) {
					for i := range 3 {
						if i == 2 {
							beforeLastBatch()
						}
						batch.Retain()
						if !yield(batch, nil) {
							return
						}
					}
				}), mode, o)
				return err
			}
			mustExist := &tables.PutOptions{MustExist: true}
			must.Fail(t, put(mustExist, func() {}), tables.ErrNotFound, "%s, mode %d: put to a missing table", name, mode)
			must.Do(t, put(nil, func() {}))
			if err := put(mustExist, func() {}); err != nil {
				t.Errorf("%s, mode %d: put to an existing table: %v", name, mode, err)
			}
			err := put(mustExist, func() {
				must.Check(t, bucket.Delete(t.Context(), "t"))
			})
			if !errors.Is(err, tables.ErrNotFound) && !errors.Is(err, tables.ErrConflict) {
				t.Errorf("%s, mode %d: put to a table deleted during the put: error = %v, want ErrNotFound or ErrConflict", name, mode, err)
			}
			if _, err := bucket.Table("t").Info(t.Context()); !errors.Is(err, tables.ErrNotFound) {
				t.Errorf("%s, mode %d: Table of the deleted table: error = %v, want ErrNotFound", name, mode, err)
			}
		}
	}
}

// TestExtremeTimes checks that KeepLast works for the earliest and latest times that a column can hold, and that it
// recognizes keys that are equal despite different bits (0 and -0, or two NaNs).
func TestExtremeTimes(t *testing.T) {
	for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
		latest := int64(1<<63 - 1)
		switch unit { // Iceberg stores seconds and milliseconds as microseconds
		case arrow.Second:
			latest = latest / 1_000_000
		case arrow.Millisecond:
			latest = latest / 1_000
		}
		schema := tabletest.ParseColumns(t, fmt.Sprintf("t timestamp[%s]; f float64; n int64", unit))
		zero := 0.0
		for _, noTail := range []bool{false, true} {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1, NoTail: noTail})
			put := func(n int64) {
				t.Helper()
				b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
				defer b.Release()
				for _, timestamp := range []int64{latest, -latest, 0} {
					for _, f := range []float64{zero / zero * float64(n), zero * float64(1-2*(n%2))} {
						b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp))
						b.Field(1).(*array.Float64Builder).Append(f)
						b.Field(2).(*array.Int64Builder).Append(n)
					}
				}
				o := &tables.PutOptions{Settings: &tables.Settings{Time: "t", Keys: []string{"f"}, OnDuplicate: tables.KeepLast}}
				tabletest.PutRows(t, s.Bucket("b"), "t", tabletest.OneBatch(b.NewRecordBatch()), tables.PutAppend, o)
			}
			for n := range int64(4) {
				put(n)
				table := s.Bucket("b").Table("t")
				for rows, o := range map[int]*tables.ScanOptions{6: nil, 2: {Last: 2}, 1: {Limit: 1}} {
					got, err := tabletest.ReadAll(t.Context(), table, o)
					if err != nil || len(got) != rows || slices.ContainsFunc(got, func(v int64) bool { return v != n }) {
						t.Errorf("unit %v, NoTail %v: got %v, want %d times %d; error: %v", unit, noTail, got, rows, n, err)
					}
				}
				if n == 1 {
					tabletest.Fold(t, s)
				}
			}
		}
	}
}

// TestTimeTypes checks order, ranges and duplicates in tables with time columns of every allowed type.
func TestTimeTypes(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	types := []arrow.DataType{arrow.FixedWidthTypes.Date32}
	for _, zone := range []string{"", "UTC", "Europe/Berlin"} {
		for _, unit := range []arrow.TimeUnit{arrow.Second, arrow.Millisecond, arrow.Microsecond, arrow.Nanosecond} {
			types = append(types, &arrow.TimestampType{Unit: unit, TimeZone: zone})
		}
	}
	for i, typ := range types {
		name := fmt.Sprint(i, " ", typ)
		put := func(rows string) {
			t.Helper()
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "t", OnDuplicate: tables.KeepLast}}
			r := tabletest.JSONRows(t, fmt.Sprintf("t %s; n int64", typ), rows)
			tabletest.PutRows(t, s.Bucket("b"), name, r, tables.PutAppend, o)
		}
		z := ""
		if ts, ok := typ.(*arrow.TimestampType); ok && ts.TimeZone != "" {
			z = " 00:00:00Z"
		}
		put(`{"t":"2024-01-03` + z + `","n":3},{"t":"1960-01-01` + z + `","n":1}`)
		tabletest.Fold(t, s)
		put(`{"t":"2024-01-03` + z + `","n":4},{"t":"2024-01-02` + z + `","n":2}`)
		table := s.Bucket("b").Table(name)
		for range 2 {
			for want, o := range map[string]*tables.ScanOptions{
				"[1 2 4]": nil, "[2 4]": {From: time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)}, "[4]": {Last: 1, Columns: []string{"n"}},
			} {
				if got, err := tabletest.ReadAll(t.Context(), table, o); err != nil || fmt.Sprint(got) != want {
					t.Errorf("time column of type %v: Scan(%+v) = %v, want %s; error: %v", typ, o, got, want, err)
				}
			}
			tabletest.Fold(t, s)
		}
	}
}

// TestForeignRename renames a table that has rows in the tail, as another program would, and then appends under its
// new name in the same Store. No rows or metadata may be lost, also not by a snapshot directly after the rename.
func TestForeignRename(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		isNoticed := i%2 > 0 // the Store notices that the old name is gone, before the next snapshot or put
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
		b := s.Bucket("")
		tabletest.PutRows(t, b, "a", tabletest.Rows(0), tables.PutAppend, &tables.PutOptions{Metadata: tables.Metadata{"k": "v"}})
		tabletest.Put(t, b, "a", tables.PutAppend, 1)
		tabletest.ExecInCatalog(t, s.Dir(), `UPDATE iceberg_tables SET table_name='b' WHERE table_name='a'`)
		if isNoticed {
			tabletest.WantMissing(t, b, "a")
		}
		if i >= 2 {
			tabletest.Snapshot(t, b, "x")
			tabletest.WantRowsAt(t, b, "b", tables.AtSnapshot("x"), 0, 1)
		}
		tabletest.WantRows(t, b, "b", 0, 1)
		tabletest.Put(t, b, "a", tables.PutAppend, 9)
		tabletest.Put(t, b, "b", tables.PutAppend, 2)
		tabletest.WantRows(t, b, "b", 0, 1, 2)
		tabletest.Fold(t, s)
		tabletest.WantRows(t, b, "b", 0, 1, 2)
		tabletest.WantRows(t, b, "a", 9)
		if i, err := b.Table("b").Info(t.Context()); err != nil || i.Metadata["k"] != "v" {
			t.Fatalf("Info = %+v, %v; want metadata k = v", i, err)
		}
	}
}
