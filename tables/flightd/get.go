package flightd

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

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
