package flightd

import (
	"cmp"
	"context"
	"crypto/rand"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

func (s *sqlServer) describe(ctx context.Context, st statement) (*tables.QueryDescription, error) {
	serving.Note(ctx, st.Bucket, st.SQL)
	end, err := serving.AcquireQuery(ctx)
	if err != nil {
		return nil, serving.Status(err)
	}
	defer end()
	o, release, err := st.options(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := s.store.Describe(ctx, st.SQL, o)
	return d, serving.Status(err)
}

// executionInfo returns the ticket for one execution, with an ID for canceling it. If parameters are bound,
// executionInfo omits the schema: the parameters may change the columns, and clients would then reject the rows. It
// also omits the schema of a write, because a client that already has the schema may end the call before the write is
// complete.
func (s *sqlServer) executionInfo(ctx context.Context, st statement, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	serving.Note(ctx, st.Bucket, st.SQL)
	d := new(tables.QueryDescription)
	st.ID = rand.Text()
	switch {
	case tables.IsWrite(st.SQL):
		if err := serving.RequireWrite(ctx); err != nil {
			return nil, err
		}
		st.WriteID = cmp.Or(headerID(ctx), st.ID)
	case st.Parameters == nil:
		var err error
		d, err = s.describe(ctx, st)
		if err != nil {
			return nil, err
		}
	}
	handle, err := st.handle()
	if err != nil {
		return nil, err
	}
	ticket, err := flightsql.CreateStatementQueryTicket(handle)
	if err != nil {
		return nil, err
	}
	return info(desc, d.Result, ticket), nil
}

// schema returns the schema of a statement's result. If parameters are bound, it starts the statement, because
// the columns may depend on the parameters.
func (s *sqlServer) schema(ctx context.Context, st statement) (*flight.SchemaResult, error) {
	var columns *arrow.Schema
	if st.Parameters != nil && !tables.IsWrite(st.SQL) {
		r, end, err := s.query(ctx, st)
		if err != nil {
			return nil, err
		}
		defer end()
		columns = r.Schema()
	} else {
		d, err := s.describe(ctx, st)
		if err != nil {
			return nil, err
		}
		columns = d.Result
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(columns, memory.DefaultAllocator)}, nil
}

// query starts a statement. The caller must call end after reading the rows.
func (s *sqlServer) query(ctx context.Context, st statement) (_ array.RecordReader, end func(), err error) {
	serving.Note(ctx, st.Bucket, st.SQL)
	releaseSlot, err := serving.AcquireQuery(ctx)
	if err != nil {
		return nil, nil, serving.Status(err)
	}
	o, release, err := st.options(ctx)
	if err != nil {
		releaseSlot()
		return nil, nil, err
	}
	r, err := s.store.Query(ctx, st.SQL, o)
	if err != nil {
		release()
		releaseSlot()
		return nil, nil, serving.Status(err)
	}
	return r, func() {
		r.Release()
		release()
		releaseSlot()
	}, nil
}

// run runs the statement in a ticket, and sends its result. If the ticket is a prepared statement's handle, the
// statement must not write, because it would write again if the client repeated the call.
func (s *sqlServer) run(ctx context.Context, handle []byte, prepared bool, w flight.FlightService_DoGetServer) error {
	st, err := parseStatement(handle)
	if err != nil {
		return err
	}
	ctx, unregister := s.core.Cancellable(ctx, st.ID)
	defer unregister()
	if tables.IsWrite(st.SQL) {
		if prepared {
			return status.Error(codes.InvalidArgument, "a statement that writes needs a ticket from GetFlightInfo")
		}
		return s.execAndSendCount(ctx, st, w)
	}
	if st.WriteID != "" {
		return status.Error(codes.InvalidArgument, "only a statement that writes can have an id: leave it out")
	}
	r, end, err := s.query(ctx, st)
	if err != nil {
		return err
	}
	defer end()
	err = s.unsent.sendRows(w, r)
	return serving.Status(cmp.Or(context.Cause(ctx), r.Err(), err))
}

func (s *sqlServer) GetFlightInfoStatement(ctx context.Context, cmd flightsql.StatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return s.executionInfo(ctx, newStatement(ctx, cmd.GetQuery()), desc)
}

func (s *sqlServer) GetSchemaStatement(ctx context.Context, cmd flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	return s.schema(ctx, newStatement(ctx, cmd.GetQuery()))
}
