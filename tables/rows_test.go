package tables_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

type (
	side string
	leg  struct {
		Venue string
		Fills []float64 `arrow:"fills"`
		Fee   *int16
	}
	origin struct {
		Host string `arrow:"host"`
		Port uint16
	}
	trade struct {
		At    time.Time `arrow:"at,timestamp[ns, tz=UTC]"`
		Seen  time.Time
		Day   time.Time `arrow:"day,date32"`
		Local time.Time `arrow:"local,timestamp[ms]"`
		Took  time.Duration
		Side  side `arrow:"side"`
		I     int
		I8    int8
		I16   int16
		I32   int32
		I64   int64
		U     uint
		U8    uint8
		U16   uint16
		U32   uint32
		U64   uint64
		F32   float32
		F64   float64
		OK    bool
		Raw   []byte
		Price *float64
		Size  sql.Null[int64]
		Note  sql.NullString
		When  sql.Null[time.Time] `arrow:"when,timestamp[s]"`
		Until *time.Time
		Best  leg
		Last  *leg
		Legs  []leg
		Tags  []side
		Maybe []*int
		Times []time.Time
		Deep  [][]int32
		origin
		_   int
		Out func() `arrow:"-"`
	}
)

// trades returns a row with every field set, an empty row, and the first row again.
func trades() []trade {
	price, n, fee := 1.25, 7, int16(-3)
	at := time.Date(2026, 1, 31, 23, 59, 59, 123456789, time.UTC)
	until := at.Truncate(time.Microsecond)
	full := trade{
		At: at, Seen: until, Day: time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC), Local: at.Truncate(time.Millisecond), Took: -time.Nanosecond, Side: "it's",
		I: math.MinInt64, I8: -128, I16: -1 << 15, I32: -1 << 31, I64: math.MaxInt64, U: math.MaxUint64, U8: 255, U16: 1<<16 - 1, U32: 1<<32 - 1, U64: math.MaxUint64,
		F32: 0.1, F64: math.Inf(-1), OK: true, Raw: []byte{0, 255}, Price: &price, Size: sql.Null[int64]{V: 5, Valid: true}, Note: sql.NullString{String: "", Valid: true},
		When: sql.Null[time.Time]{V: at.Truncate(time.Second), Valid: true}, Until: &until,
		Best: leg{"X", []float64{1, 2}, &fee}, Last: &leg{Venue: "Y"}, Legs: []leg{{"Z", []float64{}, nil}, {}}, Tags: []side{"a", ""}, Maybe: []*int{nil, &n},
		Times: []time.Time{until}, Deep: [][]int32{{1}, {}, nil}, origin: origin{"h", 8080},
	}
	zero := time.Unix(0, 0).UTC()
	empty := trade{At: zero, Day: zero, Local: zero, Seen: time.Time{}}
	return []trade{full, empty, full}
}

// TestRows checks that appended rows can be read from the tail, from files, and in batches.
func TestRows(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	b := s.Bucket("")
	want := trades()
	must.Get(tables.Append(t.Context(), b.Table("trades"), want))(t)
	table := b.Table("trades")
	for _, source := range []string{"tail", "files"} {
		var got []trade
		for row, err := range tables.Rows[trade](t.Context(), table, &tables.ScanOptions{Dictionaries: true}) {
			if err != nil {
				t.Fatalf("rows from the %s: %v", source, err)
			}
			got = append(got, row)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("rows from the %s: got %+v\nwant %+v", source, got, want)
		}
		tabletest.Fold(t, s)
	}
	schema := must.Get(table.Schema(t.Context()))(t)
	structSchema, err := tables.SchemaOf[trade]()
	if err != nil || !schema.Equal(structSchema) {
		t.Fatalf("SchemaOf = %v, %v; want the table's schema %v", structSchema, err, schema)
	}
	for name, nullable := range map[string]bool{"at": false, "Price": true, "Size": true, "Legs": true, "Best": false, "Raw": true, "host": false} {
		if f, _ := schema.FieldsByName(name); len(f) != 1 || f[0].Nullable != nullable {
			t.Errorf("columns named %s: %v, want one column with Nullable %v", name, f, nullable)
		}
	}
	var n int64
	for batch, err := range table.Batches(t.Context(), &tables.ScanOptions{Columns: []string{"side"}, ChunkRows: 2}) {
		must.Do(t, err)
		n = n*10 + batch.NumRows()
	}
	if n != 21 {
		t.Fatalf("got batch sizes %d (one digit per batch), want 21", n)
	}
}

// TestRowsOfManyBatches checks that more rows than fit in one batch are read in order, and that a loop can end early.
func TestRowsOfManyBatches(t *testing.T) {
	type row struct{ N int }
	all := make([]row, tables.WriteBatchRows+3)
	for i := range all {
		all[i].N = i
	}
	s := tabletest.Open(t, t.TempDir(), nil)
	if v, err := tables.Append(t.Context(), s.Bucket("").Table("t"), all); err != nil || v != 1 {
		t.Fatalf("Append = version %+v, error %v; want version 1", v, err)
	}
	table := s.Bucket("").Table("t")
	next := 0
	for r, err := range tables.Rows[row](t.Context(), table, nil) {
		if err != nil || r.N != next {
			t.Fatalf("Rows yielded %+v, error %v; want row %d", r, err, next)
		}
		next++
	}
	if next != len(all) {
		t.Fatalf("Rows yielded %d rows, want %d", next, len(all))
	}
	next = 0
	for r, err := range tables.Rows[row](t.Context(), table, &tables.ScanOptions{Filter: filter.And(filter.Gt("N", 100), filter.In("N", 1, 101, 60_000))}) {
		if err != nil || r.N < 101 {
			t.Fatalf("Rows yielded %+v, error %v; want only rows that match the filter", r, err)
		}
		if next++; next == 1 {
			break
		}
	}
	must.Do(t, s.Close()) // fails if a reader is still open
}

// TestRowsOfOtherTypes checks that columns can be read into fields of other types if the values fit.
func TestRowsOfOtherTypes(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "A", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
		{Name: "B", Type: arrow.PrimitiveTypes.Int16},
		{Name: "C", Type: arrow.PrimitiveTypes.Float32},
		{Name: "D", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
		{Name: "E", Type: arrow.FixedWidthTypes.Date64},
		{Name: "F", Type: &arrow.FixedSizeBinaryType{ByteWidth: 2}},
		{Name: "G", Type: arrow.FixedWidthTypes.Duration_s},
		{Name: "H", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int8)},
	}, nil)
	batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(
		`[{"A":7,"B":-1,"C":0.5,"D":"x","E":"2026-01-31","F":"AAE=","G":"2s","H":[1,2]},{"A":18446744073709551615,"B":300,"C":1,"D":null,"E":"2026-01-31","F":"AAE=","G":"2s","H":[1,2]}]`))
	must.Do(t, err)
	defer batch.Release()
	first := batch.NewSlice(0, 1)
	defer first.Release()
	type wide struct {
		A int8
		B int64
		C float64
		D side
		E time.Time
		F []byte
		G time.Duration `arrow:"g"`
		H []int
	}
	type hiding struct {
		wide
		G time.Duration
	}
	if err := readError[hiding](first); err == nil || !strings.Contains(err.Error(), `no such column`) { // field G of the embedded wide has no column
		t.Fatalf(`RowsOf error = %v, want an error with the text "no such column"`, err)
	}
	type fit struct {
		A int8
		B int64
		C float64
		D side
		E time.Time
		F []byte
		G time.Duration
		H []int
	}
	got, err := rowsOfBatches[fit](first)
	want := []fit{{7, -1, 0.5, "x", time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), []byte{0, 1}, 2 * time.Second, []int{1, 2}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("RowsOf = %+v, %v; want %+v", got, err, want)
	}
	for i, err := range []error{
		readError[struct{ A int64 }](batch), readError[struct{ B int8 }](batch), readError[struct{ B uint64 }](batch),
		readError[struct{ B float64 }](batch), readError[struct{ B time.Duration }](batch), readError[struct{ C int }](batch),
		readError[struct{ D string }](batch), readError[struct{ D int }](batch), readError[struct{ E string }](batch),
		readError[struct{ F string }](batch), readError[struct{ G int64 }](batch), readError[struct{ H int64 }](batch),
		readError[struct{ H leg }](batch), readError[struct{ H []string }](batch), readError[struct{ Missing int }](batch),
	} {
		if !errors.As(err, new(*tables.SchemaError)) {
			t.Errorf("RowsOf with field %d, which does not fit the column: error = %v, want a SchemaError", i, err)
		}
	}
}

func rowsOfBatches[T any](batch arrow.RecordBatch) (all []T, err error) {
	for row, err := range tables.RowsOf[T](retainedReader(batch)) {
		if err != nil {
			return all, err
		}
		all = append(all, row)
	}
	return all, nil
}

func retainedReader(b arrow.RecordBatch) array.RecordReader {
	b.Retain()
	return tabletest.OneBatch(b)
}

func readError[T any](batch arrow.RecordBatch) error {
	return storetest.FirstError(tables.RowsOf[T](retainedReader(batch)))
}

// TestInvalidRowTypes checks that a type that cannot be a row, or a field that cannot be a column, causes an error
// that names it.
func TestInvalidRowTypes(t *testing.T) {
	type recursive struct{ Next []recursive }
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	type tagged struct {
		A int
		B int `arrow:"A"`
	}
	type small struct {
		N int `arrow:"n,int8"`
	}
	type text struct {
		At time.Time `arrow:"at,utf8"`
	}
	type tomorrow struct {
		At time.Time `arrow:"at,tomorrow"`
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{must.Err(tables.Append(t.Context(), b.Table("t"), []int{1})), "int is not a struct"},
		{must.Err(tables.Append(t.Context(), b.Table("t"), []*leg{nil})), "*tables_test.leg is not a struct"},
		{must.Err(tables.Append(t.Context(), b.Table("t"), []time.Time{{}})), "time.Time is not a struct"},
		{storetest.FirstError(tables.RowsOf[int](tabletest.Rows(1))), "int is not a struct"},
		{must.Err(tables.SchemaOf[struct{ C chan int }]()), `column "C"`},
		{must.Err(tables.SchemaOf[struct{ hidden int }]()), "no exported field"},
		{must.Err(tables.SchemaOf[tagged]()), "two fields"},
		{must.Err(tables.SchemaOf[recursive]()), "or recursive"},
		{must.Err(tables.SchemaOf[struct{ P **int }]()), "can be null at two levels"},
		{must.Err(tables.SchemaOf[small]()), "only a time"},
		{must.Err(tables.SchemaOf[text]()), "a time cannot be stored as utf8"},
		{must.Err(tables.SchemaOf[tomorrow]()), "tomorrow"},
	} {
		if !errors.As(c.err, new(*tables.ArgumentError)) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error = %v, want an ArgumentError that contains %q", c.err, c.want)
		}
	}
	type nanos struct {
		At time.Time `arrow:"at,timestamp[ns]"`
	}
	_, err := tables.Append(t.Context(), b.Table("t"), []nanos{{time.Unix(1, 0)}, {}})
	if !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), "row 2") {
		t.Errorf(`Append error = %v, want a SchemaError with the text "row 2"`, err)
	}
	must.Fail(t, must.Err(b.Table("t").Info(t.Context())), tables.ErrNotFound, "after failed appends, Table")
}

// TestRowsOfReaderTwice checks that a second loop over a reader yields only an error, and that a loop that panics
// releases the reader.
func TestRowsOfReaderTwice(t *testing.T) {
	type row struct {
		N int64 `arrow:"n"`
	}
	b := tabletest.Open(t, t.TempDir(), nil).Bucket("")
	tabletest.Put(t, b, "t", tables.PutReplace, tabletest.Sequence(0, 10)...)
	r := must.Get(b.Table("t").Scan(t.Context(), nil))(t)
	rows := tables.RowsOf[row](r)
	func() {
		defer func() { _ = recover() }()
		for range rows {
			panic("leave the loop")
		}
	}()
	n := 0
	for _, err := range rows {
		if n++; !errors.As(err, new(*tables.ArgumentError)) {
			t.Errorf("second loop: error = %v, want an ArgumentError", err)
		}
	}
	if n != 1 {
		t.Errorf("second loop: %d iterations, want one, with the error", n)
	}
}

// TestDateOutOfRange checks that a date that date32 cannot represent is an error, and does not wrap around.
func TestDateOutOfRange(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), nil)
	type dated struct {
		Day time.Time `arrow:"day,date32"`
	}
	for year, ok := range map[int]bool{-1: true, 9999: true, 6_000_000: false, -6_000_000: false} {
		day := time.Date(year, 2, 3, 0, 0, 0, 0, time.UTC)
		if _, err := tables.Append(t.Context(), s.Bucket("").Table(fmt.Sprint("t", year)), []dated{{day}}); (err == nil) != ok {
			t.Errorf("Append of a date in year %d: error = %v, want success: %v", year, err, ok)
		}
	}
}

// TestRowsNameTheField checks that the error for a field that does not fit its column names the table and the field,
// and matches SchemaError, wherever it is found.
func TestRowsNameTheField(t *testing.T) {
	table := tabletest.Open(t, t.TempDir(), nil).Bucket("").Table("trades")
	must.Get(tables.Append(t.Context(), table, []struct{ Host string }{{"a"}}))(t)
	type misnamed struct{ Hosts string }
	type mistyped struct{ Host time.Time }
	onlyHost := &tables.ScanOptions{Columns: []string{"Host"}}
	for name, err := range map[string]error{
		"field Hosts of tables_test.misnamed": storetest.FirstError(tables.Rows[misnamed](t.Context(), table, nil)),
		"field Hosts of":                      storetest.FirstError(tables.Rows[misnamed](t.Context(), table, onlyHost)),
		"field Host of tables_test.mistyped":  storetest.FirstError(tables.Rows[mistyped](t.Context(), table, nil)),
	} {
		var schemaErr *tables.SchemaError
		if !errors.As(err, &schemaErr) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "trades") || strings.Count(err.Error(), "tables: ") != 1 {
			t.Errorf("error = %v, want a SchemaError with %q and the table's name", err, name)
		}
	}
	if _, err := tables.SchemaOf[struct{ C chan int }](); !errors.As(err, new(*tables.SchemaError)) || !strings.Contains(err.Error(), "field C") {
		t.Errorf("SchemaOf a channel: error = %v, want a SchemaError with field C", err)
	}
}
