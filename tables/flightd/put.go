package flightd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// DoPut receives rows. The first message contains the command that says what to do with the rows.
func (s *Server) DoPut(st flight.FlightService_DoPutServer) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	allocator := s.memory.newRowAllocator(callOf(st.Context()))
	defer allocator.end()
	checked := &checkedStream{FlightService_DoPutServer: st, ctx: context.WithValue(st.Context(), allocatorKey{}, allocator), messages: arrowsafe.NewMessages(allocator.limit())}
	checked.first, err = checked.check(first)
	if err != nil {
		return asShootsError(err)
	}
	d := first.FlightDescriptor
	serving.NoteRequest(st.Context(), "", d.GetCmd())
	if d.GetType() == flight.DescriptorCMD && isSQL(d.GetCmd()) {
		// Unlike s.FlightServer, this new server allocates decompressed batches from the put's limited memory. s.sql
		// checks the right to write later, because a client without this right may bind a query's parameters.
		return flightsql.NewFlightServerWithAllocator(s.sql, allocator).DoPut(checked)
	}
	if err := serving.RequireWrite(st.Context()); err != nil {
		return err
	}
	release, err := serving.AcquirePut(st.Context())
	if err != nil {
		return err
	}
	defer release()
	if d.GetType() == flight.DescriptorCMD && operations.IsCall(operations.PutCall, d.GetCmd()) {
		return s.runPut(d.GetCmd(), checked, allocator)
	}
	return asShootsError(s.put(d, checked, allocator))
}

// checkedStream is a put's stream that checks each message before Recv returns it.
type checkedStream struct {
	flight.FlightService_DoPutServer
	ctx      context.Context    // contains the put's rowAllocator
	first    *flight.FlightData // the first message, already received and checked; nil after Recv has returned it
	messages *arrowsafe.Messages
}

func (r *checkedStream) Context() context.Context { return r.ctx }

func (r *checkedStream) Recv() (*flight.FlightData, error) {
	if m := r.first; m != nil {
		r.first = nil
		return m, nil
	}
	m, err := r.FlightService_DoPutServer.Recv()
	if err != nil {
		return nil, err
	}
	return r.check(m)
}

func (r *checkedStream) check(m *flight.FlightData) (*flight.FlightData, error) {
	if string(m.AppMetadata) == operations.PutCanceled {
		return nil, kinds.Canceled.Errorf("the client canceled the put: nothing was changed")
	}
	if len(m.DataHeader) == 0 { // the message has only a descriptor or metadata
		return m, nil
	}
	if err := r.messages.Check(m.DataHeader, m.DataBody); err != nil {
		return nil, kinds.BadRequest.Errorf("%v", err)
	}
	return m, nil
}

// put puts rows into the table named by a path or by a command of shoots (another table server).
func (s *Server) put(d *flight.FlightDescriptor, st *checkedStream, memory memory.Allocator) (err error) {
	var c struct{ Name, Mode, Bucket, ID string }
	defaultMode := tables.PutError
	if d.GetType() == flight.DescriptorPATH {
		defaultMode = tables.PutAppend
		c.Bucket, c.Name, err = splitPath(d.GetPath())
	} else {
		err = decode(d.GetCmd(), &c)
	}
	if err != nil {
		return err
	}
	mode, err := parseMode(c.Mode, defaultMode)
	if err != nil {
		return err
	}
	ctx := st.Context()
	bucket := s.store.Bucket(c.Bucket)
	if mode == tables.PutError { // fail before the client sends the rows; Put checks again
		if _, err := bucket.Table(c.Name).At(ctx); err == nil {
			return newShootsError(kinds.Exists, fmt.Errorf("dataframe %s exists", c.Name))
		}
	}
	stream, err := flightReader(st, memory)
	if err != nil {
		return newShootsError(kinds.BadRequest, fmt.Errorf("the rows cannot be read: %w", err))
	}
	defer stream.Release()
	rows, err := newUpload(ctx, stream)
	if err != nil {
		return err
	}
	if _, err := bucket.Table(c.Name).Put(ctx, rows, mode, &tables.PutOptions{ID: c.ID}); err != nil {
		return err
	}
	return sendPutResult(st, map[string]int64{"rows": rows.numRows})
}

// sendPutResult sends v as JSON.
func sendPutResult(st flight.FlightService_DoPutServer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.Send(&flight.PutResult{AppMetadata: body})
}
