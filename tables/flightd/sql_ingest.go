package flightd

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// upload reads, checks and counts the rows that a client sends.
type upload struct {
	flight.MessageReader
	ctx        context.Context
	checker    arrowsafe.Checker
	schema     *arrow.Schema
	memory     *putRows
	extraBytes int64 // extra memory counted for the current batch, in bytes
	rows       int64
	err        error
}

func newUpload(ctx context.Context, r flight.MessageReader) (*upload, error) {
	memory := streamOf(ctx).rows
	u := &upload{MessageReader: r, ctx: ctx, checker: arrowsafe.Checker{Limit: memory.limit()}, schema: r.Schema(), memory: memory}
	if u.schema == nil {
		return nil, status.Errorf(codes.InvalidArgument, "the stream has no schema: %v", r.Err())
	}
	return u, nil
}

func (u *upload) Schema() *arrow.Schema { return u.schema }

// Next reads the next batch, checks it, and waits for the memory that it needs.
func (u *upload) Next() bool {
	u.memory.unreserve(u.extraBytes)
	u.extraBytes = 0
	if u.err != nil || !u.MessageReader.Next() {
		return false
	}
	b := u.RecordBatch()
	extra, err := u.checker.Check(u.ctx, b)
	if u.ctx.Err() != nil {
		u.err = err
	} else if err != nil {
		u.err = status.Error(codes.InvalidArgument, err.Error())
	}
	if u.err != nil {
		return false
	}
	u.err = u.reserve(extra)
	if u.err != nil {
		return false
	}
	u.rows += b.NumRows()
	return true
}

// reserve waits for n bytes of memory. The batch needs them in addition to the size of its message, because
// values that share memory in the message will be stored separately.
func (u *upload) reserve(n int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = status.Errorf(codes.ResourceExhausted, "%v", p)
		}
	}()
	if n > 0 {
		u.memory.reserve(n)
		u.extraBytes = n
	}
	return nil
}

func (u *upload) Err() error {
	if u.err != nil {
		return u.err
	}
	return u.MessageReader.Err()
}

// DoPutCommandStatementIngest puts all rows into a table, or none if it fails.
func (s *sqlServer) DoPutCommandStatementIngest(ctx context.Context, cmd flightsql.StatementIngest, r flight.MessageReader) (int64, error) {
	serving.Note(ctx, cmd.GetSchema(), "", cmd.GetTable())
	if err := serving.RequireWrite(ctx); err != nil {
		return 0, err
	}
	endPut, err := serving.AcquirePut(ctx)
	if err != nil {
		return 0, serving.Status(err)
	}
	defer endPut()
	mode, mustExist, err := ingestMode(cmd)
	if err != nil {
		return 0, err
	}
	o := &tables.PutOptions{MustExist: mustExist}
	for name, value := range cmd.GetOptions() {
		if name != "id" {
			return 0, status.Errorf(codes.InvalidArgument, "ingestion has no option %q: the only option is id, which makes it safe to repeat an ingestion", name)
		}
		o.ID = value
	}
	name, err := s.bucketOf(ctx, cmd.GetSchema())
	if err != nil {
		return 0, serving.Status(err)
	}
	in, err := newUpload(ctx, r)
	if err != nil {
		return 0, err
	}
	if _, err := s.store.Bucket(name).Table(cmd.GetTable()).Put(ctx, in, mode, o); err != nil {
		return 0, serving.Status(err)
	}
	return in.rows, nil
}

func ingestMode(cmd flightsql.StatementIngest) (mode tables.PutMode, mustExist bool, err error) {
	const (
		missingFails = flightsql.TableDefinitionOptionsTableNotExistOptionFail
		append_      = flightsql.TableDefinitionOptionsTableExistsOptionAppend
		replace      = flightsql.TableDefinitionOptionsTableExistsOptionReplace
	)
	catalog := cmd.GetCatalog()
	o := cmp.Or(cmd.GetTableDefinitionOptions(), new(flightsql.TableDefinitionOptions))
	mustExist = o.IfNotExist == missingFails
	switch o.IfExists {
	case append_:
		mode = tables.PutAppend
	case replace:
		mode = tables.PutReplace
	default:
		mode = tables.PutError
	}
	switch {
	case cmd.GetTemporary():
		err = status.Error(codes.Unimplemented, "temporary tables are not supported")
	case len(cmd.GetTransactionId()) > 0:
		err = status.Error(codes.Unimplemented, "transactions are not supported: each ingestion is atomic by itself")
	case catalog != "" && catalog != catalogName:
		err = status.Error(codes.NotFound, "there is no catalog "+catalog+": the only catalog is "+catalogName)
	case mustExist && mode == tables.PutError:
		err = status.Error(codes.InvalidArgument, "the ingestion would fail whether or not the table exists: change if_exists or if_not_exist")
	}
	return mode, mustExist, err
}
