package flightd

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// sqlServer implements Flight SQL: statements, prepared statements, ingestion and the catalog. It
// stores nothing for its clients: tickets and handles of prepared statements contain the statement,
// so they survive a restart. A ticket or handle grants no rights beyond the caller's.
type sqlServer struct {
	flightsql.BaseServer
	store   *tables.Store
	infos   []uint32 // ids of the supported SQL infos
	running executions
}

func newSQLServer(store *tables.Store) *sqlServer {
	s := &sqlServer{store: store, running: executions{active: map[*execution]struct{}{}}}
	s.Alloc = memory.DefaultAllocator
	for id, value := range sqlInfos() {
		if err := s.RegisterSqlInfo(id, value); err != nil {
			panic(err) // a programming error: the value has an unsupported type
		}
		s.infos = append(s.infos, uint32(id))
	}
	return s
}

// sqlError returns err with the status code that Flight SQL's clients expect.
func sqlError(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown {
		return withoutJargon(err)
	}
	for _, c := range []struct {
		target error
		code   codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{partd.ErrUnknownOutcome, codes.Unknown},
		{tables.ErrNotFound, codes.NotFound},
		{tables.ErrExists, codes.AlreadyExists},
		{tables.ErrConflict, codes.Aborted},
		{tables.ErrRequirement, codes.Aborted},
		{tables.ErrNotEmpty, codes.FailedPrecondition},
		{tables.ErrClosed, codes.Unavailable},
		{tables.ErrDamaged, codes.DataLoss},
		{tables.ErrReadOnly, codes.PermissionDenied},
		{errors.ErrUnsupported, codes.Unimplemented},
		{partd.ErrTooLarge, codes.ResourceExhausted},
	} {
		if errors.Is(err, c.target) {
			return status.Error(c.code, shorten(err.Error()))
		}
	}
	if errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.DuplicateError)) || errors.As(err, new(*tables.RuleError)) ||
		errors.As(err, new(*tables.ArgumentError)) || errors.As(err, new(*tables.SQLError)) || errors.As(err, new(*filter.SyntaxError)) {
		return status.Error(codes.InvalidArgument, shorten(err.Error()))
	}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return status.Error(codes.InvalidArgument, shorten(err.Error()))
	case errors.Is(err, fs.ErrPermission) && !errors.As(err, new(*fs.PathError)): // a PathError means that the server itself lacks permission to open a file
		return status.Error(codes.PermissionDenied, shorten(err.Error()))
	}
	return status.Error(codes.Internal, shorten(err.Error()))
}

var errCancelled = status.Error(codes.Canceled, "the call was cancelled")

// executions contains the executions that can be canceled by id. A client that knows an id may cancel its execution,
// because only the client that chose or received the id knows it. The limits on concurrent calls also limit the size of
// this set.
type executions struct {
	mu     sync.Mutex
	active map[*execution]struct{}
}

type execution struct {
	id     string
	cancel context.CancelCauseFunc
}

// add registers an execution until the returned function is called. Canceling the execution cancels
// its whole call, so that a blocked send to the client returns too.
func (r *executions) add(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e := &execution{id, cancel}
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.cancel != nil {
		e.cancel = c.cancel
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active[e] = struct{}{}
	return ctx, func() {
		cancel(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.active, e)
	}
}

func (r *executions) cancel(id string) (canceled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.active {
		if id != "" && e.id == id {
			e.cancel(errCancelled)
			delete(r.active, e)
			canceled = true
		}
	}
	return canceled
}

// CancelFlightInfo cancels the running executions of a query. An execution runs until its result was sent.
func (s *sqlServer) CancelFlightInfo(_ context.Context, r *flight.CancelFlightInfoRequest) (flight.CancelFlightInfoResult, error) {
	canceled := false
	for _, e := range r.GetInfo().GetEndpoint() {
		ticket, err := flightsql.GetStatementQueryTicket(&flight.Ticket{Ticket: e.GetTicket().GetTicket()}) // the endpoint's ticket may be nil
		if err != nil {
			return flight.CancelFlightInfoResult{}, status.Errorf(codes.InvalidArgument, "the ticket is not for a query: %v", err)
		}
		st, err := parseStatement(ticket.GetStatementHandle())
		if err != nil {
			return flight.CancelFlightInfoResult{}, err
		}
		canceled = s.running.cancel(st.ID) || canceled
	}
	if canceled {
		return flight.CancelFlightInfoResult{Status: flight.CancelStatusCancelled}, nil
	}
	return flight.CancelFlightInfoResult{Status: flight.CancelStatusNotCancellable}, nil
}
