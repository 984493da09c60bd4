package arrowsafe

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// FlightReader returns a reader of a Flight stream whose messages were checked by
// [Messages]. What it takes beside them is from an allocator, whose panics it
// returns as errors. Its batches have to go through [Check].
func FlightReader(st flight.DataStreamReader, m memory.Allocator) (r *flight.Reader, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("%w: %v", errSchemaMessage, p)
		}
	}()
	return flight.NewRecordReader(st, ipc.WithAllocator(m))
}
