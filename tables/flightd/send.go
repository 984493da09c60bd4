package flightd

import (
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/util"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// sendRows sends the rows of r. It does not return r's errors, so the caller must check r.Err.
func (a *answers) sendRows(st flight.FlightService_DoGetServer, r array.RecordReader) error {
	a.senders.Add(1)
	defer a.senders.Add(-1)
	if encoded, ok := r.(interface {
		Messages() iter.Seq[*flight.FlightData]
	}); ok {
		for m := range encoded.Messages() {
			if err := st.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
	rows := &rowsWriter{stream: st}
	maxMessage := a.maxMessage
	if fieldCount(r.Schema()) > maxWholeFields {
		maxMessage = nil // small messages
	}
	w := ipc.NewWriterWithPayloadWriter(rows, ipc.WithSchema(r.Schema()))
	for rows.batch = range take.Rebatch(r, maxMessage) {
		if err := w.Write(rows.batch); err != nil {
			return err
		}
	}
	rows.batch = nil
	if r.Err() != nil {
		return nil
	}
	return w.Close() // sends the schema if there were no rows
}

// maxWholeFields limits the fields of batches that are sent as one message. The header has up to 64 bytes for each field,
// and header and batch must stay below 4 MiB.
const maxWholeFields = 2000

// fieldCount returns the number of columns, including those within columns.
func fieldCount(s *arrow.Schema) (n int) {
	for _, f := range s.Fields() {
		schema.ContainsType(f.Type, func(arrow.DataType) bool { n++; return false })
	}
	return n
}

// maxMessage returns the maximum size in bytes of a batch that is sent as one message. It returns 0 if so many calls send
// rows that their unsent messages could take more than half of the limit. Each call then sends small messages.
func (a *answers) maxMessage() int64 {
	const unsentMessages = 3 // of a call whose client reads slowly
	if unsentMessages*datafile.RecycledBytes*a.senders.Load() > a.limit/2 {
		return 0
	}
	return datafile.RecycledBytes
}

// rowsWriter sends the messages of an ipc.Writer.
type rowsWriter struct {
	stream flight.FlightService_DoGetServer
	batch  arrow.RecordBatch // the batch being written; nil at the end
}

func (w *rowsWriter) Start() error { return nil }
func (w *rowsWriter) Close() error { return nil }

// WritePayload implements ipc.PayloadWriter.
func (w *rowsWriter) WritePayload(p ipc.Payload) error {
	header := p.Meta()
	defer header.Release()
	m := &rowsMessage{batch: w.batch, pieces: mem.BufferSlice{nil}}
	if err := p.SerializeBody(m); err != nil {
		return err
	}
	const dataHeader, dataBody = 2, 1000 // fields of FlightData
	start := protowire.AppendTag(nil, dataHeader, protowire.BytesType)
	start = protowire.AppendBytes(start, header.Bytes())
	if m.bodySize > 0 {
		start = protowire.AppendTag(start, dataBody, protowire.BytesType)
		start = protowire.AppendVarint(start, uint64(m.bodySize))
	}
	m.pieces[0] = mem.SliceBuffer(start)
	return w.stream.SendMsg(m)
}

// rowsMessage is an encoded FlightData message, whose body refers to the memory of a batch.
type rowsMessage struct {
	batch    arrow.RecordBatch
	pieces   mem.BufferSlice
	bodySize int
}

// Write adds b to the body without copying it.
func (m *rowsMessage) Write(b []byte) (int, error) {
	m.pieces, m.bodySize = append(m.pieces, mem.SliceBuffer(b)), m.bodySize+len(b)
	return len(b), nil
}

// encode returns the message, and the memory in bytes that it needs until it is sent. It copies a small message, and a
// message that would keep much more memory than its own. Otherwise, the message refers to the batch, which the caller
// must release after the message has been sent.
func (m *rowsMessage) encode() (data mem.BufferSlice, size int64, batch arrow.RecordBatch) {
	size = int64(m.pieces.Len())
	if size >= minCharged && m.batch != nil {
		if memory := util.TotalRecordSize(m.batch); memory <= 2*size {
			m.batch.Retain()
			return m.pieces, max(memory, size), m.batch
		}
	}
	return mem.BufferSlice{m.pieces.MaterializeToBuffer(mem.DefaultBufferPool())}, size, nil
}
