package flightd

import (
	"bytes"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

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

// declaredParameters returns the schema that clients see for a statement's parameters. Clients may bind values of other
// types. The schema suits Apache's JDBC driver, which sends times in milliseconds, whatever their unit in the schema.
// The driver cannot bind a value to a parameter of type null, so such a parameter becomes a string, which SQL casts to
// any type.
func declaredParameters(parameters *arrow.Schema) *arrow.Schema {
	fields := parameters.Fields()
	for i, f := range fields {
		switch t := f.Type.(type) {
		case *arrow.TimestampType:
			fields[i].Type = &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: t.TimeZone}
		case *arrow.Time32Type, *arrow.Time64Type:
			fields[i].Type = arrow.FixedWidthTypes.Time32ms
		case *arrow.NullType:
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
		case in.rows > 1:
			return nil, status.Error(codes.InvalidArgument, "a query accepts a single row of parameters: bind and run the query once for each row")
		default:
			if err := w.Write(b); err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "cannot encode the parameters: %v", err)
			}
		}
		if out.Len() > maxParameterBytes {
			return nil, status.Errorf(codes.ResourceExhausted, "the parameters have %d bytes: the limit is %d",
				out.Len(), maxParameterBytes)
		}
	}
	if in.Err() != nil {
		return nil, serving.Status(in.Err())
	}
	if in.rows == 0 {
		return nil, status.Error(codes.InvalidArgument, "the parameters have no row: a query needs a single row of parameters")
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	st.Parameters = out.Bytes()
	return st.handle()
}
