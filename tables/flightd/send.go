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
func (a *unsentLimit) sendRows(st flight.FlightService_DoGetServer, r array.RecordReader) error {
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
	if schema.CountFields(r.Schema()) > maxWholeFields {
		maxMessage = nil // small messages
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
	return w.Close() // sends the schema if there were no rows
}

// maxWholeFields limits the number of fields in batches that are sent as one message. The header has up to 64 bytes for
// each field, and the header and the batch together must stay below 4 MiB.
const maxWholeFields = 2000

// maxMessage returns the maximum size, in bytes, of a batch that is sent as one message. If so many calls are sending
// rows that their unsent messages could take more than half of the limit, it returns 0; each call then sends small
// messages.
func (a *unsentLimit) maxMessage() int64 {
	const unsentMessages = 3 // in a call whose client reads slowly
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

// sendReader sends the rows of the reader that open returns, and holds a query slot until all are sent. explain
// converts errors from open and from the reader.
func (a *unsentLimit) sendReader(st flight.FlightService_DoGetServer, explain func(error) error, open func(context.Context) (array.RecordReader, error)) error {
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
	if err := a.sendRows(st, r); err != nil || r.Err() == nil {
		return err
	}
	return explain(r.Err())
}

// DoGet sends the rows for a ticket.
func (s *Server) DoGet(t *flight.Ticket, st flight.FlightService_DoGetServer) error {
	serving.NoteRequest(st.Context(), "", t.Ticket)
	keys := keySchema(t.Ticket)
	switch {
	case keys != nil:
		return flight.NewRecordWriter(st, ipc.WithSchema(keys)).Close()
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

// get serves clients of shoots, another table server. It sends a table's rows, or the result of a statement.
func (s *Server) get(t *flight.Ticket, st flight.FlightService_DoGetServer) error {
	var c struct {
		rowsCommand
		Partd string
	}
	if err := decode(t.Ticket, &c); err != nil {
		return err
	}
	if c.Partd != "" { // a newer client's call; get would send all rows instead
		return invalidCall(fmt.Errorf("the ticket's call is %.40q, which this server does not know: upgrade the server", c.Partd))
	}
	table := s.store.Bucket(c.Bucket).Table(c.Name)
	if c.SQL == nil {
		return s.unsent.sendReader(st, func(err error) error { return err }, func(ctx context.Context) (array.RecordReader, error) {
			return table.Scan(ctx, &tables.ScanOptions{Dictionaries: true, Recycle: true})
		})
	}
	if _, err := table.At(st.Context()); err != nil {
		return err
	}
	return s.unsent.sendReader(st, statementError, func(ctx context.Context) (array.RecordReader, error) {
		return s.store.Query(ctx, *c.SQL, &tables.QueryOptions{Bucket: c.Bucket, Recycle: true})
	})
}
