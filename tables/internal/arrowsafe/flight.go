package arrowsafe

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// CheckSchema checks the schema's message as Flight carries it, without the head
// that it has in a stream.
func CheckSchema(description []byte) error {
	if len(description) > maxSchema {
		return fmt.Errorf("%w: it has %d bytes", errSchemaMessage, len(description))
	}
	message := append([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, description...)
	binary.LittleEndian.PutUint32(message[4:], uint32(len(description)))
	_, err := SchemaMessage(message)
	return err
}

// FlightReader returns a reader of a Flight stream whose schema was checked. What
// it takes beside the messages is from an allocator, whose panics it returns as
// errors. Its batches have to go through [Check].
func FlightReader(st flight.DataStreamReader, m memory.Allocator) (r *flight.Reader, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("%w: %v", errSchemaMessage, p)
		}
	}()
	return flight.NewRecordReader(st, ipc.WithAllocator(m))
}
