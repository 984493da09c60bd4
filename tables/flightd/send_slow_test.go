package flightd

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestSlowReaders checks that several clients that read slowly get all rows from a server with little memory. Each of
// their calls has several unsent messages, so the server must send small ones.
func TestSlowReaders(t *testing.T) {
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 32 << 20})
	values := array.NewFloat64Builder(memory.DefaultAllocator)
	for range 60_000 {
		values.Append(rand.Float64())
	}
	column := values.NewArray()
	wide := arrow.NewSchema(nil, nil)
	columns := make([]arrow.Array, 50)
	for i := range columns {
		wide, _ = wide.AddField(i, arrow.Field{Name: fmt.Sprint("x", i), Type: column.DataType()})
		columns[i] = column
	}
	r := must.Get(array.NewRecordReader(wide, []arrow.RecordBatch{array.NewRecordBatch(wide, columns, int64(column.Len()))}))(t)
	must.Get(store.Bucket("").Table("t").Put(t.Context(), r, tables.PutError, nil))(t)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			st, err := dialTest(t, address).DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)})
			for err == nil {
				_, err = st.Recv()
				time.Sleep(100 * time.Millisecond)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("a slow reader failed: %v", err)
			}
		})
	}
	readers.Wait()
}
