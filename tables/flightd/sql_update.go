package flightd

import (
	"cmp"
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

var errTransactions = kinds.Unsupported.Errorf("there are no transactions: each statement is one commit; connect with autocommit")

// BeginTransaction implements flightsql.Server.
func (s *sqlServer) BeginTransaction(context.Context, flightsql.ActionBeginTransactionRequest) ([]byte, error) {
	return nil, errTransactions
}

// EndTransaction implements flightsql.Server.
func (s *sqlServer) EndTransaction(context.Context, flightsql.ActionEndTransactionRequest) error {
	return errTransactions
}

// exec runs a statement that writes and returns the number of changed rows. For several rows of parameters, see
// tables.ExecOptions.Parameters.
func (s *sqlServer) exec(ctx context.Context, st statement, parameters arrow.RecordBatch) (int64, error) {
	serving.Note(ctx, st.Bucket, st.SQL)
	if err := serving.RequireWrite(ctx); err != nil {
		return 0, err
	}
	if st.At() != nil || st.Since.At() != nil {
		return 0, kinds.BadRequest.Errorf("a statement that writes cannot select a version, a snapshot or a time")
	}
	release, err := serving.Acquire(ctx, operations.BothSlots)
	if err != nil {
		return 0, serving.Status(err)
	}
	defer release()
	result, err := s.store.Exec(ctx, st.SQL, &tables.ExecOptions{Bucket: st.Bucket, ID: st.WriteID, Parameters: parameters})
	return result.Rows, serving.Status(err)
}

// DoPutCommandStatementUpdate implements flightsql.Server.
func (s *sqlServer) DoPutCommandStatementUpdate(ctx context.Context, cmd flightsql.StatementUpdate) (int64, error) {
	if len(cmd.GetTransactionId()) > 0 {
		return 0, errTransactions
	}
	st := newStatement(ctx, cmd.GetQuery())
	st.WriteID = headerID(ctx)
	return s.exec(ctx, st, nil)
}

// DoPutPreparedStatementUpdate runs a prepared statement with the stream's rows as parameters. If the stream has no
// columns, it uses the parameters in the handle, if any.
func (s *sqlServer) DoPutPreparedStatementUpdate(ctx context.Context, cmd flightsql.PreparedStatementUpdate, r flight.MessageReader) (int64, error) {
	st, err := parseStatement(cmd.GetPreparedStatementHandle())
	if err != nil {
		return 0, err
	}
	st.WriteID = headerID(ctx)
	// a stream without columns has no parameter rows
	if schema := r.Schema(); schema == nil || schema.NumFields() == 0 {
		o, release, err := st.options(ctx)
		if err != nil {
			return 0, err
		}
		defer release()
		return s.exec(ctx, st, o.Parameters)
	}
	if err := serving.RequireWrite(ctx); err != nil {
		return 0, err
	}
	release, err := serving.Acquire(ctx, operations.BothSlots) // first, because the rows that readAll reads take memory
	if err != nil {
		return 0, serving.Status(err)
	}
	defer release()
	in, err := newUpload(ctx, r)
	if err != nil {
		return 0, err
	}
	rows, err := in.readAll()
	if err != nil || rows == nil {
		return 0, serving.Status(err)
	}
	defer rows.Release()
	return s.exec(ctx, st, rows)
}

// changedRowsSchema is the schema of the answer to a statement that writes. Its metadata distinguishes the answer from
// a SELECT's result.
var changedRowsSchema = arrow.NewSchema([]arrow.Field{{Name: "rows", Type: arrow.PrimitiveTypes.Int64}}, new(arrow.MetadataFrom(map[string]string{"partd.changed_rows": "1"})))

// execAndSendCount runs a ticket's statement, which must write. It sends one row with the number of changed rows. A
// ticket from GetFlightInfo can be used twice: the second call changes nothing and sends the same number. The
// exceptions are DROP, ALTER and CREATE SCHEMA, which can fail the second time.
func (s *sqlServer) execAndSendCount(ctx context.Context, st statement, w flight.FlightService_DoGetServer) error {
	o, release, err := st.options(ctx)
	if err != nil {
		return err
	}
	defer release()
	n, err := s.exec(ctx, st, o.Parameters)
	if err != nil {
		return err
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Append(n)
	rows, err := array.NewRecordReader(changedRowsSchema, []arrow.RecordBatch{array.NewRecordBatch(changedRowsSchema, []arrow.Array{b.NewArray()}, 1)})
	if err != nil {
		return err
	}
	return s.unsentLimit.sendRows(w, rows)
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
			return 0, kinds.BadRequest.Errorf("ingestion has no option %q: the only option is id, which makes it safe to repeat an ingestion", name)
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
	return in.numRows, nil
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
		err = kinds.Unsupported.Errorf("temporary tables are not supported")
	case len(cmd.GetTransactionId()) > 0:
		err = kinds.Unsupported.Errorf("transactions are not supported: each ingestion is atomic by itself")
	case catalog != "" && catalog != catalogName:
		err = kinds.NotFound.Errorf("there is no catalog %s: the only catalog is %s", catalog, catalogName)
	case mustExist && mode == tables.PutError:
		err = kinds.BadRequest.Errorf("the ingestion would fail whether or not the table exists: change if_exists or if_not_exist")
	}
	return mode, mustExist, err
}
