package flightd

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// sqlServer implements Flight SQL: statements, prepared statements, ingestion and the catalog. It stores nothing for
// its clients: a ticket or a prepared statement's handle contains the statement, so it survives a restart. A ticket or
// handle grants no rights beyond the caller's.
type sqlServer struct {
	flightsql.BaseServer
	core        *serving.Core
	store       *tables.Store
	infos       []uint32 // IDs of the SQL infos (server properties) that clients can request
	unsentLimit *unsentLimit
}

func newSQLServer(core *serving.Core, store *tables.Store, limit *unsentLimit, infos map[flightsql.SqlInfo]any) *sqlServer {
	s := &sqlServer{core: core, store: store, unsentLimit: limit}
	s.Alloc = memory.DefaultAllocator
	for id, value := range infos {
		if err := s.RegisterSqlInfo(id, value); err != nil {
			panic(err) // a programming error: the value has an unsupported type
		}
		s.infos = append(s.infos, uint32(id))
	}
	return s
}

// CancelFlightInfo cancels a query's running executions. An execution counts as running until its result has been sent.
func (s *sqlServer) CancelFlightInfo(_ context.Context, r *flight.CancelFlightInfoRequest) (flight.CancelFlightInfoResult, error) {
	anyCanceled := false
	for _, e := range r.GetInfo().GetEndpoint() {
		// the endpoint's ticket may be nil
		ticket, err := flightsql.GetStatementQueryTicket(&flight.Ticket{Ticket: e.GetTicket().GetTicket()})
		if err != nil {
			return flight.CancelFlightInfoResult{}, kinds.BadRequest.Errorf("the ticket is not for a query: %v", err)
		}
		st, err := parseStatement(ticket.GetStatementHandle())
		if err != nil {
			return flight.CancelFlightInfoResult{}, err
		}
		anyCanceled = s.core.Cancel(st.ID) || anyCanceled
	}
	if anyCanceled {
		return flight.CancelFlightInfoResult{Status: flight.CancelStatusCancelled}, nil
	}
	return flight.CancelFlightInfoResult{Status: flight.CancelStatusNotCancellable}, nil
}

// newInfo returns a FlightInfo for a ticket's result; schema may be nil. The endpoint names no location, so clients get
// the result from this server.
func newInfo(desc *flight.FlightDescriptor, schema *arrow.Schema, ticket []byte) *flight.FlightInfo {
	i := &flight.FlightInfo{
		FlightDescriptor: desc, TotalRecords: -1, TotalBytes: -1,
		Endpoint: []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
	}
	if schema != nil {
		i.Schema = flight.SerializeSchema(schema, memory.DefaultAllocator)
	}
	return i
}

// produce runs f, which sends chunks. Then it closes the channel. If f fails or panics, produce sends the error as the
// last chunk; the receiver must read it.
func produce(chunks chan<- flight.StreamChunk, f func() error) {
	defer close(chunks)
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = kinds.Internal.Errorf("the call failed because of a fault in the server: %v", p)
			}
		}()
		return f()
	}()
	if err != nil {
		chunks <- flight.StreamChunk{Err: serving.Status(err)}
	}
}

// streamRows streams the rows that fill passes to add. Each value must be a string, []byte, int32, bool or nil.
func streamRows(ctx context.Context, schema *arrow.Schema, fill func(add func(...any) error) error) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	const batchRows = 512
	chunks := make(chan flight.StreamChunk)
	go produce(chunks, func() error {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		n := 0
		flush := func() error {
			batch := b.NewRecordBatch()
			n = 0
			err := canceled.Send(ctx, chunks, flight.StreamChunk{Data: batch})
			if err != nil {
				batch.Release()
			}
			return err
		}
		err := fill(func(values ...any) error {
			for i, v := range values {
				switch v := v.(type) {
				case string:
					b.Field(i).(*array.StringBuilder).Append(v)
				case []byte:
					b.Field(i).(*array.BinaryBuilder).Append(v)
				case int32:
					b.Field(i).(*array.Int32Builder).Append(v)
				case bool:
					b.Field(i).(*array.BooleanBuilder).Append(v)
				default:
					b.Field(i).AppendNull()
				}
			}
			n++
			if n == batchRows {
				return flush()
			}
			return nil
		})
		if err != nil {
			return err
		}
		return flush()
	})
	return schema, chunks, nil
}

func isSQL(command []byte) bool {
	var a anypb.Any
	return proto.Unmarshal(command, &a) == nil && strings.HasPrefix(a.TypeUrl, sqlCommands)
}

const sqlCommands = "type.googleapis.com/arrow.flight.protocol.sql." // prefix of the type URLs of Flight SQL's commands

// maxParameterBytes limits the size of a statement's encoded parameters, because the statement's handle contains them.
const maxParameterBytes = 512 << 10

// maxDecodedParameterBytes limits the memory of a statement's decoded parameters.
const maxDecodedParameterBytes = 8 * maxParameterBytes

// statement is the content of a ticket or of a prepared statement's handle.
type statement struct{ operations.StatementHandle }

// newStatement returns a statement for SQL. The call's header "bucket" names the bucket in which unqualified table
// names are looked up.
func newStatement(ctx context.Context, sql string) statement {
	return statement{operations.StatementHandle{SQL: sql, Bucket: header(ctx, "bucket")}}
}

func parseStatement(handle []byte) (st statement, err error) {
	if err := operations.Unmarshal(handle, &st); err != nil {
		return st, kinds.BadRequest.Errorf("the handle is not from this server: %v", err)
	}
	return st, nil
}

func (st statement) handle() ([]byte, error) { return json.Marshal(st) }

// options returns the options for running the statement, and a function that releases the parameters in the options.
func (st statement) options(ctx context.Context) (_ *tables.QueryOptions, release func(), err error) {
	o := &tables.QueryOptions{Bucket: st.Bucket, At: st.At(), Before: st.Since.At(), Recycle: true}
	o.Parameters, err = operations.DecodeParameters(ctx, st.Parameters, maxDecodedParameterBytes)
	if err != nil {
		return nil, nil, kinds.BadRequest.Errorf("invalid parameters: %v", err)
	}
	return o, func() {
		if o.Parameters != nil {
			o.Parameters.Release()
		}
	}, nil
}

// statementHandle returns the handle of the statement in a ticket, and whether the ticket is for a prepared statement.
// ok is false if the ticket contains no statement, for example because it is a request about the catalog.
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

// headerID returns the value of the call's header "id", which makes a write safe to repeat, or "" if there is none.
func headerID(ctx context.Context) string { return header(ctx, "id") }

// header returns the value of a call's header, or "".
func header(ctx context.Context, name string) string {
	return cmp.Or(metadata.ValueFromIncomingContext(ctx, name)...)
}
