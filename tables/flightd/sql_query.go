package flightd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

func (s *sqlServer) describe(ctx context.Context, st statement) (*tables.QueryDescription, error) {
	serving.Note(ctx, st.Bucket, st.SQL)
	releaseSlot, err := serving.AcquireQuery(ctx)
	if err != nil {
		return nil, serving.Status(err)
	}
	defer releaseSlot()
	o, release, err := st.options(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := s.store.Describe(ctx, st.SQL, o)
	return d, serving.Status(err)
}

// executionInfo returns a FlightInfo whose ticket is for one execution of st and contains an ID for canceling it. If
// parameters are bound, it contains no schema: the parameters may change the columns, and clients would then reject the
// rows. It contains no schema for a write either, because a client that knows the schema may end the call before the
// write is complete.
func (s *sqlServer) executionInfo(ctx context.Context, st statement, desc *flight.FlightDescriptor) (_ *flight.FlightInfo, err error) {
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
	return newInfo(desc, d.Result, ticket), nil
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

// run runs the statement in a ticket and sends its result. If the ticket is a prepared statement's handle, the
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
			return kinds.BadRequest.Errorf("a statement that writes needs a ticket from GetFlightInfo")
		}
		return s.execAndSendCount(ctx, st, w)
	}
	if st.WriteID != "" {
		return kinds.BadRequest.Errorf("only a statement that writes can have an id: leave it out")
	}
	r, end, err := s.query(ctx, st)
	if err != nil {
		return err
	}
	defer end()
	err = s.unsentLimit.sendRows(w, r)
	return serving.Status(cmp.Or(context.Cause(ctx), r.Err(), err))
}

func (s *sqlServer) GetFlightInfoStatement(ctx context.Context, cmd flightsql.StatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return s.executionInfo(ctx, newStatement(ctx, cmd.GetQuery()), desc)
}

func (s *sqlServer) GetSchemaStatement(ctx context.Context, cmd flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	return s.schema(ctx, newStatement(ctx, cmd.GetQuery()))
}

func (s *sqlServer) CreatePreparedStatement(ctx context.Context, r flightsql.ActionCreatePreparedStatementRequest) (result flightsql.ActionCreatePreparedStatementResult, err error) {
	st, isWrite := newStatement(ctx, r.GetQuery()), tables.IsWrite(r.GetQuery())
	if isWrite {
		if err := serving.RequireWrite(ctx); err != nil {
			return result, err
		}
	}
	d, err := s.describe(ctx, st)
	if err != nil {
		return result, err
	}
	result.Handle, err = st.handle()
	result.ParameterSchema, result.IsUpdate = declaredParameters(d.Parameters), &isWrite
	if !isWrite { // JDBC drivers treat a statement that has a dataset schema as a query
		result.DatasetSchema = d.Result
	}
	return result, err
}

// declaredParameters returns the schema that clients see for a statement's parameters; they may bind values of other
// types. The schema suits Apache's JDBC driver. The driver sends times in milliseconds, whatever their unit in the
// schema. It cannot bind a value to a parameter of type null, so such a parameter becomes a string, which SQL casts to
// any type.
func declaredParameters(parameters *arrow.Schema) *arrow.Schema {
	fields := parameters.Fields()
	for i, f := range fields {
		switch arrowtype.KindOf(f.Type) {
		case arrowtype.Timestamp:
			fields[i].Type = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: f.Type.(*arrow.TimestampType).TimeZone}
		case arrowtype.Time:
			fields[i].Type = arrow.FixedWidthTypes.Time32ms
		case arrowtype.Null:
			fields[i].Type = arrow.BinaryTypes.String
		}
	}
	return arrow.NewSchema(fields, nil)
}

// ClosePreparedStatement only checks the handle, because the server does not store statements.
func (s *sqlServer) ClosePreparedStatement(_ context.Context, r flightsql.ActionClosePreparedStatementRequest) error {
	_, err := parseStatement(r.GetPreparedStatementHandle())
	return err
}

func (s *sqlServer) GetFlightInfoPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	return s.executionInfo(ctx, st, desc)
}

func (s *sqlServer) GetSchemaPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	return s.schema(ctx, st)
}

// DoPutPreparedStatementQuery binds parameters. It returns a new handle that contains the parameters; the
// client must use this handle to run the statement.
func (s *sqlServer) DoPutPreparedStatementQuery(ctx context.Context, cmd flightsql.PreparedStatementQuery, r flight.MessageReader, _ flight.MetadataWriter) ([]byte, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	release, err := serving.AcquireQuery(ctx) // decoding and checking the parameters takes as much work as a query
	if err != nil {
		return nil, serving.Status(err)
	}
	defer release()
	in, err := newUpload(ctx, r)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(in.Schema()))
	for in.Next() {
		b := in.RecordBatch()
		switch {
		case b.NumRows() == 0:
			continue
		case in.numRows > 1:
			return nil, kinds.BadRequest.Errorf("a query accepts a single row of parameters: bind and run the query once for each row")
		default:
			if err := w.Write(b); err != nil {
				return nil, kinds.BadRequest.Errorf("cannot encode the parameters: %v", err)
			}
		}
		if out.Len() > maxParameterBytes {
			return nil, kinds.Oversized("the parameters have", int64(out.Len()), maxParameterBytes)
		}
	}
	if in.Err() != nil {
		return nil, serving.Status(in.Err())
	}
	if in.numRows == 0 {
		return nil, kinds.BadRequest.Errorf("the parameters have no row: a query needs a single row of parameters")
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	st.Parameters = out.Bytes()
	return st.handle()
}
