package flightd

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// maxParameters limits the size of a statement's parameters, in bytes, because the statement's handle contains them.
const maxParameters = 512 << 10

// maxParameterRows limits the memory of decoded parameters, in bytes.
const maxParameterRows = 8 * maxParameters

type statement struct{ operations.StatementHandle }

// newStatement returns a statement for SQL. The call's header "bucket" names the bucket in which unqualified table
// names are looked up.
func newStatement(ctx context.Context, sql string) statement {
	st := statement{operations.StatementHandle{SQL: sql}}
	md, _ := metadata.FromIncomingContext(ctx)
	if names := md.Get("bucket"); len(names) > 0 {
		st.Bucket = names[0]
	}
	return st
}

func parseStatement(handle []byte) (st statement, err error) {
	if err := operations.Unmarshal(handle, &st); err != nil {
		return st, status.Errorf(codes.InvalidArgument, "the handle is not from this server: %v", err)
	}
	return st, nil
}

func (st statement) handle() ([]byte, error) { return json.Marshal(st) }

// options returns the options for running the statement, and a function that releases the options.
func (st statement) options(ctx context.Context) (*tables.QueryOptions, func(), error) {
	o := &tables.QueryOptions{Bucket: st.Bucket, At: st.At(), Before: st.Since.At(), Recycle: true}
	var err error
	if o.Parameters, err = operations.DecodeParameters(ctx, st.Parameters, maxParameterRows); err != nil {
		return nil, nil, status.Errorf(codes.InvalidArgument, "invalid parameters: %v", err)
	}
	return o, func() {
		if o.Parameters != nil {
			o.Parameters.Release()
		}
	}, nil
}

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

// info returns a FlightInfo for the result of a ticket; schema may be nil. The endpoint names no location, so
// clients get the result from this server.
func info(desc *flight.FlightDescriptor, schema *arrow.Schema, ticket []byte) *flight.FlightInfo {
	i := &flight.FlightInfo{
		FlightDescriptor: desc, TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
	}
	if schema != nil {
		i.Schema = flight.SerializeSchema(schema, memory.DefaultAllocator)
	}
	return i
}

// executionInfo returns the ticket for one execution, with an id for canceling it. If parameters are bound,
// executionInfo omits the schema: the parameters may change the columns, and clients would then reject the rows.
// It also omits the schema of a write, because a client that already has the schema may end the call before the write
// is complete.
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
		if d, err = s.describe(ctx, st); err != nil {
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

// statementHandle returns the handle of the statement in a ticket, and whether the ticket is a prepared statement. If
// the ticket contains no statement, such as a request about the catalog, ok is false.
func statementHandle(t *flight.Ticket) (handle []byte, prepared, ok bool) {
	var a anypb.Any
	if proto.Unmarshal(t.Ticket, &a) != nil {
		return nil, false, false
	}
	m, _ := a.UnmarshalNew() // nil if the type is unknown
	switch m := m.(type) {
	case *pb.TicketStatementQuery:
		return m.GetStatementHandle(), false, true
	case *pb.CommandPreparedStatementQuery:
		return m.GetPreparedStatementHandle(), true, true
	}
	return nil, false, false
}

// run runs the statement of a ticket, and sends its result. If the ticket is the handle of a prepared statement, the
// statement must not write, because it would write again if the client repeats the call.
func (s *sqlServer) run(ctx context.Context, handle []byte, prepared bool, w flight.FlightService_DoGetServer) error {
	st, err := parseStatement(handle)
	if err != nil {
		return err
	}
	ctx, unregister := s.core.Cancellable(ctx, st.ID)
	defer unregister()
	if tables.IsWrite(st.SQL) {
		if prepared {
			return status.Error(codes.InvalidArgument, "a statement that writes needs a ticket of GetFlightInfo")
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
	err = s.answers.sendRows(w, r)
	return serving.Status(cmp.Or(context.Cause(ctx), r.Err(), err))
}

// produce runs f, which sends chunks, and closes the channel. If f fails or panics, produce sends the
// error as the last chunk; the receiver must read it.
func produce(chunks chan<- flight.StreamChunk, f func() error) {
	defer close(chunks)
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = status.Errorf(codes.Internal, "the call failed because of a fault in the server: %v", p)
			}
		}()
		return f()
	}()
	if err != nil {
		chunks <- flight.StreamChunk{Err: serving.Status(err)}
	}
}

func (s *sqlServer) GetFlightInfoStatement(ctx context.Context, cmd flightsql.StatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return s.executionInfo(ctx, newStatement(ctx, cmd.GetQuery()), desc)
}

func (s *sqlServer) GetSchemaStatement(ctx context.Context, cmd flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	return s.schema(ctx, newStatement(ctx, cmd.GetQuery()))
}
