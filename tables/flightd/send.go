package flightd

import (
	"context"
	"fmt"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// sendRows sends the rows of r. It does not return r's errors, so the caller must check r.Err.
func (u *unsentLimit) sendRows(st flight.FlightService_DoGetServer, r array.RecordReader) error {
	u.senders.Add(1)
	defer u.senders.Add(-1)
	if encoded, ok := r.(interface { // the result of a query may be encoded already
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
	maxMessage := u.maxMessage
	if schema.CountFields(r.Schema()) > maxWholeFields {
		maxMessage = nil // small messages only
	}
	w := ipc.NewWriterWithPayloadWriter(rows, ipc.WithSchema(r.Schema()))
	for rows.batch = range batches.Rebatch(r, maxMessage) {
		if err := w.Write(rows.batch); err != nil {
			return err
		}
	}
	rows.batch = nil
	if r.Err() != nil {
		return nil
	}
	return w.Close() // if there were no rows, it sends the schema
}

// maxWholeFields limits the number of fields in batches that are sent as one message. The header has up to 64 bytes for
// each field, and header and batch together must stay below 4 MiB, which is the default limit of gRPC's clients.
const maxWholeFields = 2000

// maxMessage returns the maximum size, in bytes, of a batch that is sent as one message. It returns 0, so that each
// call sends small messages, if the unsent messages of all calls could otherwise take more than half of the limit.
func (u *unsentLimit) maxMessage() int64 {
	const unsentMessages = 3 // number of unsent messages in a call whose client reads slowly
	if unsentMessages*datafile.RecycledBytes*u.senders.Load() > u.maxBytes/2 {
		return 0
	}
	return datafile.RecycledBytes
}

// rowsWriter sends the messages of an ipc.Writer.
type rowsWriter struct {
	stream flight.FlightService_DoGetServer
	batch  arrow.RecordBatch // the batch being written; nil after the last batch
}

func (w *rowsWriter) Start() error { return nil }
func (w *rowsWriter) Close() error { return nil }

// WritePayload implements ipc.PayloadWriter.
func (w *rowsWriter) WritePayload(p ipc.Payload) error {
	header := p.Meta()
	defer header.Release()
	m := &rowsMessage{batch: w.batch, pieces: mem.BufferSlice{nil}} // pieces[0] follows once the body's size is known
	if err := p.SerializeBody(m); err != nil {
		return err
	}
	const dataHeader, dataBody = 2, 1000 // field numbers in FlightData
	start := protowire.AppendTag(nil, dataHeader, protowire.BytesType)
	start = protowire.AppendBytes(start, header.Bytes())
	if m.bodySize > 0 {
		start = protowire.AppendTag(start, dataBody, protowire.BytesType)
		start = protowire.AppendVarint(start, uint64(m.bodySize))
	}
	m.pieces[0] = mem.SliceBuffer(start)
	return w.stream.SendMsg(m)
}

// sendReader sends the rows of the reader that open returns. It holds a query slot until all rows are sent. explain
// converts errors from open and from the reader.
func (u *unsentLimit) sendReader(st flight.FlightService_DoGetServer, explain func(error) error, open func(context.Context) (array.RecordReader, error)) error {
	release, err := serving.AcquireQuery(st.Context())
	if err != nil {
		return err
	}
	defer release()
	r, err := open(st.Context())
	if err != nil {
		return explain(err)
	}
	defer r.Release()
	if err := u.sendRows(st, r); err != nil || r.Err() == nil {
		return err
	}
	return explain(r.Err())
}

// DoGet sends the rows for a ticket.
func (s *Server) DoGet(t *flight.Ticket, st flight.FlightService_DoGetServer) error {
	serving.NoteRequest(st.Context(), "", t.Ticket)
	emptyResult := keySchema(t.Ticket)
	switch {
	case emptyResult != nil:
		return flight.NewRecordWriter(st, ipc.WithSchema(emptyResult)).Close()
	case isSQL(t.Ticket):
		if handle, prepared, ok := statementHandle(t); ok {
			return s.sql.run(st.Context(), handle, prepared, st)
		}
		return s.FlightServer.DoGet(t, st)
	case operations.IsCall(operations.ScanCall, t.Ticket):
		return s.sendScan(t.Ticket, st)
	case operations.IsCall(operations.ChangesCall, t.Ticket):
		return s.sendChanges(t.Ticket, st)
	case operations.IsCall(operations.ResampleCall, t.Ticket):
		return s.sendResampled(t.Ticket, st)
	}
	return asShootsError(s.get(t, st))
}

// get sends a table's rows or the result of a statement to a client of shoots (another table server).
func (s *Server) get(t *flight.Ticket, st flight.FlightService_DoGetServer) error {
	var c struct {
		rowsCommand
		Partd string
	}
	if err := decode(t.Ticket, &c); err != nil {
		return err
	}
	if c.Partd != "" { // a newer client's call, to which get would reply with all rows
		return invalidCall(fmt.Errorf("the ticket's call is %.40q, which this server does not know: upgrade the server", c.Partd))
	}
	table := s.store.Bucket(c.Bucket).Table(c.Name)
	if c.SQL == nil {
		return s.unsentLimit.sendReader(st, func(err error) error { return err }, func(ctx context.Context) (array.RecordReader, error) {
			return table.Scan(ctx, &tables.ScanOptions{Dictionaries: true, Recycle: true})
		})
	}
	if _, err := table.At(st.Context()); err != nil {
		return err
	}
	return s.unsentLimit.sendReader(st, statementError, func(ctx context.Context) (array.RecordReader, error) {
		return s.store.Query(ctx, *c.SQL, &tables.QueryOptions{Bucket: c.Bucket, Recycle: true})
	})
}
