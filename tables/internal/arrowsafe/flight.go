package arrowsafe

import (
	"fmt"
	"io"
	"iter"

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

// Forward reads the messages of a stream, which take at most limit bytes each, and
// checks them, but decodes none. Each is valid until the next one.
func Forward(r io.Reader, limit int64) iter.Seq2[*flight.FlightData, error] {
	return func(yield func(*flight.FlightData, error) bool) {
		s, body := newStream(r, limit, limit, nil), memory.NewResizableBuffer(memory.DefaultAllocator)
		defer body.Release()
		for {
			head, err := s.next(body)
			if err == io.EOF { //nolint:errorlint // the stream's own end
				return
			}
			if !yield(&flight.FlightData{DataHeader: head, DataBody: body.Bytes()}, err) || err != nil {
				return
			}
		}
	}
}
