package flightd

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// sqlServer implements Flight SQL: statements, prepared statements, ingestion and the catalog. It
// stores nothing for its clients: tickets and handles of prepared statements contain the statement,
// so they survive a restart. A ticket or handle grants no rights beyond the caller's.
type sqlServer struct {
	flightsql.BaseServer
	core    *serving.Core
	store   *tables.Store
	infos   []uint32 // ids of the supported SQL infos
	answers *answers
}

func newSQLServer(core *serving.Core, store *tables.Store) *sqlServer {
	s := &sqlServer{core: core, store: store}
	s.Alloc = memory.DefaultAllocator
	for id, value := range sqlInfos(core.Options().ReadOnly, core.Options().Version) {
		if err := s.RegisterSqlInfo(id, value); err != nil {
			panic(err) // a programming error: the value has an unsupported type
		}
		s.infos = append(s.infos, uint32(id))
	}
	return s
}

// CancelFlightInfo cancels the running executions of a query. An execution runs until its result was sent.
func (s *sqlServer) CancelFlightInfo(_ context.Context, r *flight.CancelFlightInfoRequest) (flight.CancelFlightInfoResult, error) {
	canceled := false
	for _, e := range r.GetInfo().GetEndpoint() {
		// the endpoint's ticket may be nil
		ticket, err := flightsql.GetStatementQueryTicket(&flight.Ticket{Ticket: e.GetTicket().GetTicket()})
		if err != nil {
			return flight.CancelFlightInfoResult{}, status.Errorf(codes.InvalidArgument, "the ticket is not for a query: %v", err)
		}
		st, err := parseStatement(ticket.GetStatementHandle())
		if err != nil {
			return flight.CancelFlightInfoResult{}, err
		}
		canceled = s.core.Cancel(st.ID) || canceled
	}
	if canceled {
		return flight.CancelFlightInfoResult{Status: flight.CancelStatusCancelled}, nil
	}
	return flight.CancelFlightInfoResult{Status: flight.CancelStatusNotCancellable}, nil
}
