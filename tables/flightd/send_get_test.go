package flightd

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// tableOf returns rows whose values depend on the number of the table and on the index of the row.
func tableOf(table, rows int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "text", Type: arrow.BinaryTypes.String},
		{Name: "kind", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
	}, nil))
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(1000*i + table))
		b.Field(1).(*array.Float64Builder).Append(float64(i)/7 + float64(table))
		if i%5 == table {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.Int64Builder).Append(int64(i) * int64(i+table))
		}
		b.Field(3).(*array.StringBuilder).Append(fmt.Sprint(table, " ", i))
		if err := b.Field(4).(*array.BinaryDictionaryBuilder).AppendString(fmt.Sprint("kind ", i%9)); err != nil {
			panic(err)
		}
	}
	return b.NewRecordBatch()
}

// TestConcurrentGets checks that concurrent gets of two tables, one of them ordered, return the right rows
// however slowly clients read, although the server reuses the memory of sent rows.
func TestConcurrentGets(t *testing.T) {
	const rows = 150_000
	_, store, address := serveTest(t, nil)
	want := make([]arrow.RecordBatch, 2)
	for i := range want {
		want[i] = tableOf(i, rows)
		in := must.Get(array.NewRecordReader(want[i].Schema(), []arrow.RecordBatch{want[i].NewSlice(0, rows/2), want[i].NewSlice(rows/2, rows)}))(t)
		o := &tables.PutOptions{Settings: &tables.Settings{Time: []string{"", "at"}[i]}}
		must.Get(store.Bucket("").Table(fmt.Sprint("t", i)).Put(t.Context(), in, tables.PutError, o))(t)
	}
	get := func(ticket string, table int, pause time.Duration) error {
		st, err := dialTest(t, address).DoGet(t.Context(), &flight.Ticket{Ticket: []byte(ticket)})
		if err != nil {
			return err
		}
		r, err := flight.NewRecordReader(st)
		if err != nil {
			return err
		}
		defer r.Release()
		offset := int64(0)
		for ; r.Next(); time.Sleep(pause) {
			b := r.RecordBatch()
			part := want[table].NewSlice(offset, offset+b.NumRows())
			for i := range 4 {
				if !array.Equal(b.Column(i), part.Column(i)) {
					return fmt.Errorf("the batch that starts at row %d has other values in column %s than the put rows", offset, b.ColumnName(i))
				}
			}
			kinds, _ := b.Column(4).(*array.Dictionary)
			for i := range int(b.NumRows()) {
				if kind := kinds.Dictionary().ValueStr(kinds.GetValueIndex(i)); kind != fmt.Sprint("kind ", (int(offset)+i)%9) {
					return fmt.Errorf("row %d has the wrong kind %s", int(offset)+i, kind)
				}
			}
			offset += b.NumRows()
		}
		if offset != rows && r.Err() == nil {
			return fmt.Errorf("got %d rows, want %d", offset, rows)
		}
		return r.Err()
	}
	var gets sync.WaitGroup
	for table := range want {
		for _, ticket := range []string{`{"name":"t%d"}`, `{"partd":"scan","name":"t%d","dictionaries":true}`} {
			for _, pause := range []time.Duration{0, 50 * time.Millisecond} {
				gets.Go(func() {
					for range 2 {
						if err := get(fmt.Sprintf(ticket, table), table, pause); err != nil {
							t.Errorf("%s, table %d, with pauses of %v: %v", ticket, table, pause, err)
						}
					}
				})
			}
		}
	}
	gets.Wait()
}

// TestResampledRefuses checks that an invalid ticket is refused with InvalidArgument, because it is the client's fault.
func TestResampledRefuses(t *testing.T) {
	_, store, address := serveTest(t, nil)
	tabletest.PutRows(t, store.Bucket(""), "t", tabletest.OneBatch(tableOf(0, 10)), tables.PutError, nil)
	for _, fields := range []string{
		`"Rule":"s"`, `"Rule":"s","Functions":["avg"]`, `"Rule":"s","Functions":["ffill","sum"]`, `"Rule":"-1s","Functions":["size"]`, `"Rule":"s","SQL":"SELECT 1"`,
	} {
		ticket := fmt.Sprintf(`{"partd":"resample","Source":{"Name":"t"},"TimeColumn":"at",%s}`, fields)
		if err := readAll(t.Context(), dialTest(t, address), ticket, 0); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a ticket with %s: got %v, want InvalidArgument", fields, err)
		}
	}
}

// TestScanFields checks that a ticket may have empty fields, as clients send that always send every field. An invalid
// filter must be refused with InvalidArgument.
func TestScanFields(t *testing.T) {
	_, store, address := serveTest(t, nil)
	tabletest.PutRows(t, store.Bucket(""), "t", tabletest.OneBatch(tableOf(0, 10)), tables.PutError, nil)
	for ticket, want := range map[string]codes.Code{
		`{"partd":"scan","name":"t","bucket":"","columns":null,"where":"","limit":0,"last":0,"time_column":"","part":0}`: codes.OK,
		`{"partd":"scan","name":"t","where":null}`:  codes.OK,
		`{"partd":"scan","name":"t","where":"x >"}`: codes.InvalidArgument,
		`{"partd":"scan","name":"t","where":5}`:     codes.InvalidArgument,
		`{"partd":"scan","name":"t","limit":-1}`:    codes.InvalidArgument,
		`{"partd":"scan","name":"t","part":9}`:      codes.InvalidArgument,
	} {
		if err := readAll(t.Context(), dialTest(t, address), ticket, 0); status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", ticket, err, want)
		}
	}
}
