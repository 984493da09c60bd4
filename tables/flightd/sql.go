package flightd

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// sqlServer is Flight SQL: statements, prepared statements, ingestion and the
// catalog. It keeps nothing about its clients: tickets and handles of prepared
// statements are the statements themselves, so they outlive the server, and give
// nobody more than the rights with which they come.
type sqlServer struct {
	flightsql.BaseServer
	store   *tables.Store
	infos   []uint32 // what SQL infos are known
	running running
}

func newSQLServer(store *tables.Store) *sqlServer {
	s := &sqlServer{store: store, running: running{all: map[*execution]struct{}{}}}
	s.Alloc = memory.DefaultAllocator
	for id, value := range sqlInfos() {
		if err := s.RegisterSqlInfo(id, value); err != nil {
			panic(err) // a value of a type that Flight SQL does not have: the program is wrong
		}
		s.infos = append(s.infos, uint32(id))
	}
	return s
}

func sqlInfos() map[flightsql.SqlInfo]any {
	version := "unknown"
	if b, ok := debug.ReadBuildInfo(); ok {
		version = b.Main.Version
	}
	return map[flightsql.SqlInfo]any{
		flightsql.SqlInfoFlightSqlServerName:                        "partd-tables",
		flightsql.SqlInfoFlightSqlServerVersion:                     version,
		flightsql.SqlInfoFlightSqlServerArrowVersion:                arrow.PkgVersion,
		flightsql.SqlInfoFlightSqlServerReadOnly:                    false,
		flightsql.SqlInfoFlightSqlServerSql:                         true,
		flightsql.SqlInfoFlightSqlServerSubstrait:                   false,
		flightsql.SqlInfoFlightSqlServerTransaction:                 int32(0), // none
		flightsql.SqlInfoFlightSqlServerCancel:                      true,
		flightsql.SqlInfoFlightSqlServerBulkIngestion:               true,
		flightsql.SqlInfoFlightSqlServerIngestTransactionsSupported: false,
		flightsql.SqlInfoFlightSqlServerStatementTimeout:            int32(0),
		flightsql.SqlInfoFlightSqlServerTransactionTimeout:          int32(0),
		flightsql.SqlInfoDDLCatalog:                                 false,
		flightsql.SqlInfoDDLSchema:                                  false,
		flightsql.SqlInfoDDLTable:                                   false,
		flightsql.SqlInfoIdentifierQuoteChar:                        `"`,
		flightsql.SqlInfoSearchStringEscape:                         `\`,
		flightsql.SqlInfoSchemaTerm:                                 "bucket",
		flightsql.SqlInfoCatalogsSupportedActions:                   int32(0), // no names of three parts in SQL
		flightsql.SqlInfoCatalogTerm:                                "catalog",
		flightsql.SqlInfoCatalogAtStart:                             true,
		flightsql.SqlInfoAllTablesAreASelectable:                    true,
		flightsql.SqlInfoTransactionsSupported:                      false,
		flightsql.SqlInfoDefaultTransactionIsolation:                int64(0),
		flightsql.SqlInfoSelectForUpdateSupported:                   false,
		flightsql.SqlInfoStoredProceduresSupported:                  false,
		flightsql.SqlInfoSupportsColumnAliasing:                     true,
		flightsql.SqlInfoNullPlusNullIsNull:                         true,
		flightsql.SqlInfoSupportsTableCorrelationNames:              true,
		flightsql.SqlInfoSupportsExpressionsInOrderBy:               true,
		flightsql.SqlInfoSupportsOrderByUnrelated:                   true,
		flightsql.SqlInfoCorrelatedSubqueriesSupported:              true,
		flightsql.SqlInfoDataDefinitionCausesTransactionCommit:      false,
	}
}

// wantedInfos leaves out what is not known, where the library would fail.
type wantedInfos []uint32

func (w wantedInfos) GetInfo() []uint32 { return w }

func (s *sqlServer) DoGetSqlInfo(ctx context.Context, cmd flightsql.GetSqlInfo) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	wanted := slices.DeleteFunc(slices.Clone(s.infos), func(id uint32) bool { return !slices.Contains(cmd.GetInfo(), id) })
	switch {
	case len(cmd.GetInfo()) == 0:
		wanted = slices.Sorted(slices.Values(s.infos))
	case len(wanted) == 0:
		return rows(ctx, schema_ref.SqlInfo, func(func(...any) error) error { return nil })
	}
	return s.BaseServer.DoGetSqlInfo(ctx, wantedInfos(wanted))
}

// sqlError is an error as Flight SQL's clients know it, by its code. The text says
// where in a statement something is wrong.
func sqlError(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) != codes.Unknown {
		return plain(err)
	}
	for _, c := range []struct {
		is   error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{partd.ErrUnknownOutcome, codes.Unknown},
		{tables.ErrNotFound, codes.NotFound},
		{tables.ErrExists, codes.AlreadyExists},
		{tables.ErrConflict, codes.Aborted},
		{tables.ErrClosed, codes.Unavailable},
		{tables.ErrDamaged, codes.DataLoss},
		{tables.ErrReadOnly, codes.PermissionDenied},
		{errors.ErrUnsupported, codes.Unimplemented},
		{partd.ErrTooLarge, codes.ResourceExhausted},
	} {
		if errors.Is(err, c.is) {
			return status.Error(c.code, shortened(err.Error()))
		}
	}
	if errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.DuplicateError)) || errors.As(err, new(*tables.RuleError)) ||
		errors.As(err, new(*tables.ArgumentError)) || errors.As(err, new(*tables.SQLError)) || errors.As(err, new(*filter.SyntaxError)) {
		return status.Error(codes.InvalidArgument, shortened(err.Error()))
	}
	return status.Error(codes.Internal, shortened(err.Error()))
}

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
