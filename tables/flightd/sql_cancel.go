package flightd

import (
	"context"
	"sync"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errCancelled = status.Error(codes.Canceled, "the call was cancelled")

// running are the executions under way, and the calls that have an id. An id is known
// to who made it or asked for it alone, so who knows it may cancel. Their number is
// bounded by that of calls at a time.
type running struct {
	mu  sync.Mutex
	all map[*execution]struct{}
}

type execution struct {
	id     string
	cancel context.CancelCauseFunc
}

// add notes an execution until the function that it returns is called. To cancel it ends
// its call, for a send to a client that receives nothing returns only then.
func (r *running) add(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e := &execution{id, cancel}
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.cancel != nil {
		e.cancel = c.cancel
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[*execution]struct{}{}
	}
	r.all[e] = struct{}{}
	return ctx, func() {
		cancel(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.all, e)
	}
}

// cancel ends the executions of an id, and reports whether there were any.
func (r *running) cancel(id string) (found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.all {
		if id != "" && e.id == id {
			e.cancel(errCancelled)
			delete(r.all, e)
			found = true
		}
	}
	return found
}

// CancelFlightInfo cancels what runs of a query. One that ended, or whose result
// nobody asked for yet, does not run, and cannot be cancelled.
func (s *sqlServer) CancelFlightInfo(_ context.Context, r *flight.CancelFlightInfoRequest) (flight.CancelFlightInfoResult, error) {
	found := false
	for _, e := range r.GetInfo().GetEndpoint() {
		ticket, err := flightsql.GetStatementQueryTicket(&flight.Ticket{Ticket: e.GetTicket().GetTicket()}) // it may be nil
		if err != nil {
			return flight.CancelFlightInfoResult{}, status.Errorf(codes.InvalidArgument, "a ticket is none of this server's queries: %v", err)
		}
		st, err := parseStatement(ticket.GetStatementHandle())
		if err != nil {
			return flight.CancelFlightInfoResult{}, err
		}
		found = s.running.cancel(st.ID) || found
	}
	if found {
		return flight.CancelFlightInfoResult{Status: flight.CancelStatusCancelled}, nil
	}
	return flight.CancelFlightInfoResult{Status: flight.CancelStatusNotCancellable}, nil
}
