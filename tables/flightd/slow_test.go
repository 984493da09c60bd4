package flightd

import (
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/tables"
)

// TestSlowReaders checks that several clients that read slowly get all rows from a server with little memory. Each of
// their calls has several unsent messages, so the server must send small ones.
func TestSlowReaders(t *testing.T) {
	_, store, address := serveTest(t, &Options{Memory: 64 << 20, MaxMessage: 32 << 20})
	batch := floatBatch(3_000_000)
	r, err := array.NewRecordReader(floats, []arrow.RecordBatch{batch})
	must(t, err)
	_, err = store.Bucket("").Table("t").Put(t.Context(), r, tables.PutError, nil)
	must(t, err)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			st, err := dialTest(t, address).DoGet(t.Context(), &flight.Ticket{Ticket: []byte(`{"name":"t"}`)})
			for err == nil {
				_, err = st.Recv()
				time.Sleep(50 * time.Millisecond)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("a slow reader failed: %v", err)
			}
		})
	}
	readers.Wait()
}
