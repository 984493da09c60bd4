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
)

func (s *sqlServer) CreatePreparedStatement(ctx context.Context, r flightsql.ActionCreatePreparedStatementRequest) (result flightsql.ActionCreatePreparedStatementResult, err error) {
	st := newStatement(ctx, r.GetQuery())
	d, err := s.describe(ctx, st)
	if err != nil {
		return result, err
	}
	result.Handle, err = st.handle()
	result.DatasetSchema, result.ParameterSchema, result.IsUpdate = d.Result, declared(d.Parameters), new(bool)
	return result, err
}

// declared returns a statement's parameters as they are declared to clients, which may bind any other
// type. Apache's JDBC driver sends milliseconds for a time, whatever unit is declared, and cannot
// bind a value to a parameter of type null. SQL casts text to any type.
func declared(parameters *arrow.Schema) *arrow.Schema {
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

// ClosePreparedStatement only checks the handle: the server keeps nothing.
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

// DoPutPreparedStatementQuery binds parameters. It returns a handle that contains them, and that
// the client uses from then on.
func (s *sqlServer) DoPutPreparedStatementQuery(ctx context.Context, cmd flightsql.PreparedStatementQuery, r flight.MessageReader, _ flight.MetadataWriter) ([]byte, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	in, err := newUpload(ctx, r)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(in.Schema()))
	for in.Next() {
		switch b := in.RecordBatch(); {
		case b.NumRows() == 0:
			continue
		case in.rows > 1:
			return nil, status.Error(codes.InvalidArgument, "a query needs one row of parameters: bind and run it for each row")
		default:
			if err := w.Write(b); err != nil {
				return nil, status.Errorf(codes.InvalidArgument, "the parameters: %v", err)
			}
		}
		if out.Len() > maxParameters {
			return nil, status.Errorf(codes.ResourceExhausted, "the parameters have %d bytes, the limit is %d", out.Len(), maxParameters)
		}
	}
	if in.Err() != nil {
		return nil, sqlError(in.Err())
	}
	if in.rows == 0 {
		return nil, status.Error(codes.InvalidArgument, "there is no row of parameters: a query needs one")
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	st.Parameters = out.Bytes()
	return st.handle()
}
