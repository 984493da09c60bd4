package flightd

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/wire"
)

// DoPut receives rows. The first message says where they go.
func (s *Server) DoPut(st flight.FlightService_DoPutServer) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	rows := s.memory.rows(st.Context())
	defer rows.end()
	if c, ok := st.Context().Value(callKey{}).(*call); ok {
		c.rows = rows
	}
	replay := &replayed{FlightService_DoPutServer: st, messages: arrowsafe.NewMessages(rows.most())}
	if replay.first, err = replay.check(first); err != nil {
		return told(st, err)
	}
	d := first.FlightDescriptor
	if d.GetType() == flight.DescriptorCMD && isSQL(d.GetCmd()) {
		// The library would allocate what compressed batches claim. It binds
		// parameters, too, for readers.
		return flightsql.NewFlightServerWithAllocator(s.sql, rows).DoPut(replay)
	}
	if err := mayWrite(st.Context()); err != nil {
		return err
	}
	release, err := AcquirePut(st.Context())
	if err != nil {
		return err
	}
	defer release()
	if d.GetType() == flight.DescriptorCMD && wire.Is(wire.PutCall, d.GetCmd()) {
		return s.nativePut(d.GetCmd(), replay, rows)
	}
	return told(st, s.put(d, replay, rows))
}

// replayed hands on a stream's first message again, and checks each.
type replayed struct {
	flight.FlightService_DoPutServer
	first    *flight.FlightData
	messages *arrowsafe.Messages
}

func (r *replayed) Recv() (*flight.FlightData, error) {
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

func (r *replayed) check(m *flight.FlightData) (*flight.FlightData, error) {
	if string(m.AppMetadata) == wire.GaveUp {
		return nil, status.Error(codes.Canceled, "the client gave the put up: nothing was changed")
	}
	if len(m.DataHeader) == 0 { // a descriptor, or a note
		return m, nil
	}
	if err := r.messages.Check(m.DataHeader, m.DataBody); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return m, nil
}

func (s *Server) put(d *flight.FlightDescriptor, st *replayed, memory memory.Allocator) error {
	var c struct{ Name, Mode, Bucket, ID string }
	absent := tables.PutError
	var err error
	if d.GetType() == flight.DescriptorPATH {
		absent = tables.PutAppend
		c.Bucket, c.Name, err = pathOf(d.GetPath())
	} else {
		err = decode(d.GetCmd(), &c)
	}
	if err != nil {
		return err
	}
	mode, err := modeOf(c.Mode, absent)
	if err != nil {
		return err
	}
	ctx := st.Context()
	bucket := s.store.Bucket(c.Bucket)
	if mode == tables.PutError { // before rows come that are not wanted; Put looks again
		if _, err := bucket.Table(ctx, c.Name); err == nil {
			return &failure{kindExists, fmt.Errorf("dataframe %s exists", c.Name)}
		}
	}
	in, err := flightReader(st, memory)
	if err != nil {
		return &failure{kindOther, fmt.Errorf("the rows cannot be read: %w", err)}
	}
	defer in.Release()
	rows, err := newUpload(ctx, in)
	if err != nil {
		return err
	}
	if _, err := bucket.Put(ctx, c.Name, rows, mode, &tables.PutOptions{ID: c.ID}); err != nil {
		return err
	}
	reply, err := json.Marshal(map[string]int64{"rows": rows.rows})
	if err != nil {
		return err
	}
	return st.Send(&flight.PutResult{AppMetadata: reply})
}
