package flightd

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

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
