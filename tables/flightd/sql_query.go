package flightd

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/wire"
)

// maxParameters bounds the parameters of a statement, in bytes: they travel in its
// handle.
const maxParameters = 512 << 10

type statement struct{ wire.Statement }

// newStatement takes the bucket of names without one from the header "bucket".
func newStatement(ctx context.Context, sql string) statement {
	st := statement{wire.Statement{SQL: sql}}
	md, _ := metadata.FromIncomingContext(ctx)
	if named := md.Get("bucket"); len(named) > 0 {
		st.Bucket = named[0]
	}
	return st
}

func parseStatement(handle []byte) (st statement, err error) {
	if err := wire.Unmarshal(handle, &st); err != nil {
		return st, status.Errorf(codes.InvalidArgument, "the handle is none of this server's: %v", err)
	}
	return st, nil
}

func (st statement) handle() ([]byte, error) { return json.Marshal(st) }

// options returns what the statement is run with, and a function that releases it.
func (st statement) options() (*tables.QueryOptions, func(), error) {
	o := &tables.QueryOptions{Bucket: st.Bucket, At: st.At()}
	if st.Parameters == nil {
		return o, func() {}, nil
	}
	invalid := func(err error) error { return status.Errorf(codes.InvalidArgument, "the parameters: %v", err) }
	r, err := arrowsafe.NewReader(bytes.NewReader(st.Parameters), int64(len(st.Parameters)), 8*maxParameters)
	if err != nil {
		return nil, nil, invalid(err)
	}
	defer r.Release()
	if !r.Next() {
		return nil, nil, invalid(fmt.Errorf("there is no row: %w", r.Err()))
	}
	row := r.RecordBatch()
	if _, err := arrowsafe.Check(row, 8*maxParameters); err != nil {
		return nil, nil, invalid(err)
	}
	row.Retain()
	o.Parameters = row
	return o, row.Release, nil
}

func (s *sqlServer) describe(ctx context.Context, st statement) (*tables.QueryDescription, error) {
	end, err := AcquireQuery(ctx)
	if err != nil {
		return nil, sqlError(err)
	}
	defer end()
	o, release, err := st.options()
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := s.store.Describe(ctx, st.SQL, o)
	return d, sqlError(err)
}

// info describes a result. The endpoint has no location: it is here.
func info(desc *flight.FlightDescriptor, schema *arrow.Schema, ticket []byte) *flight.FlightInfo {
	return &flight.FlightInfo{
		FlightDescriptor: desc, Schema: flight.SerializeSchema(schema, memory.DefaultAllocator), TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
	}
}

// execution returns the ticket of one execution, which can be cancelled.
func (s *sqlServer) execution(ctx context.Context, st statement, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	d, err := s.describe(ctx, st)
	if err != nil {
		return nil, err
	}
	st.ID = rand.Text()
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

func (s *sqlServer) schema(ctx context.Context, st statement) (*flight.SchemaResult, error) {
	d, err := s.describe(ctx, st)
	if err != nil {
		return nil, err
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(d.Result, memory.DefaultAllocator)}, nil
}

// executed is the handle of the statement that a ticket runs. Others are for the
// catalog.
func executed(t *flight.Ticket) (handle []byte, ok bool) {
	var a anypb.Any
	if proto.Unmarshal(t.Ticket, &a) != nil {
		return nil, false
	}
	m, _ := a.UnmarshalNew() // nil for what is unknown
	switch m := m.(type) {
	case *pb.TicketStatementQuery:
		return m.GetStatementHandle(), true
	case *pb.CommandPreparedStatementQuery:
		return m.GetPreparedStatementHandle(), true
	}
	return nil, false
}

// run sends the result of a statement.
func (s *sqlServer) run(ctx context.Context, handle []byte, to flight.DataStreamWriter) error {
	st, err := parseStatement(handle)
	if err != nil {
		return err
	}
	ctx, ended := s.running.add(ctx, st.ID)
	defer ended()
	turn, err := AcquireQuery(ctx)
	if err != nil {
		return sqlError(err)
	}
	defer turn()
	o, release, err := st.options()
	if err != nil {
		return err
	}
	defer release()
	r, err := s.store.Query(ctx, st.SQL, o)
	if err != nil {
		return sqlError(err)
	}
	defer r.Release()
	err = sendRows(to, r)
	return sqlError(cmp.Or(context.Cause(ctx), r.Err(), err))
}

// produce runs what sends chunks, and sends its error once it has ended: who
// receives does so until the channel is closed, but may take long. A panic is an
// error, too, which nothing else would stop here.
func produce(chunks chan<- flight.StreamChunk, f func() error) {
	defer close(chunks)
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = status.Errorf(codes.Internal, "the server failed at this call: %v", p)
			}
		}()
		return f()
	}()
	if err != nil {
		chunks <- flight.StreamChunk{Err: sqlError(err)}
	}
}

func (s *sqlServer) GetFlightInfoStatement(ctx context.Context, cmd flightsql.StatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return s.execution(ctx, newStatement(ctx, cmd.GetQuery()), desc)
}

func (s *sqlServer) GetSchemaStatement(ctx context.Context, cmd flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	return s.schema(ctx, newStatement(ctx, cmd.GetQuery()))
}

func (s *sqlServer) CreatePreparedStatement(ctx context.Context, r flightsql.ActionCreatePreparedStatementRequest) (result flightsql.ActionCreatePreparedStatementResult, err error) {
	st := newStatement(ctx, r.GetQuery())
	d, err := s.describe(ctx, st)
	if err != nil {
		return result, err
	}
	result.Handle, err = st.handle()
	result.DatasetSchema, result.ParameterSchema, result.IsUpdate = d.Result, d.Parameters, new(bool)
	return result, err
}

// ClosePreparedStatement has nothing to forget.
func (s *sqlServer) ClosePreparedStatement(_ context.Context, r flightsql.ActionClosePreparedStatementRequest) error {
	_, err := parseStatement(r.GetPreparedStatementHandle())
	return err
}

func (s *sqlServer) GetFlightInfoPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	return s.execution(ctx, st, desc)
}

func (s *sqlServer) GetSchemaPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	return s.schema(ctx, st)
}

// DoPutPreparedStatementQuery binds parameters: the handle that it returns, which
// the client uses from then on, has them.
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
			return nil, status.Error(codes.InvalidArgument, "a query takes one row of parameters: bind and run it for each row")
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
		return nil, status.Error(codes.InvalidArgument, "there is no row of parameters: a query takes one")
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	st.Parameters = out.Bytes()
	return st.handle()
}

const noWrites = "SQL only reads here: rows are put by ingestion (CommandStatementIngest) or a put of Flight, deleted and resampled by the actions that docs/flight.md names"

func (s *sqlServer) DoPutCommandStatementUpdate(context.Context, flightsql.StatementUpdate) (int64, error) {
	return 0, status.Error(codes.Unimplemented, noWrites)
}

func (s *sqlServer) DoPutPreparedStatementUpdate(context.Context, flightsql.PreparedStatementUpdate, flight.MessageReader) (int64, error) {
	return 0, status.Error(codes.Unimplemented, noWrites)
}
