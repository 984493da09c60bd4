package flightd

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestSQLUpdate(t *testing.T) {
	s := serveDuck(t)
	ctx := t.Context()
	for _, c := range []struct {
		sql  string
		rows int64
	}{
		{"CREATE TABLE t (n BIGINT, s VARCHAR)", 0},
		{"CREATE TABLE big AS SELECT range AS n, 'text' AS s FROM range(1000)", 1000},
		{"INSERT INTO t SELECT n, s FROM big WHERE n < 5", 5},
		{"UPDATE t SET s = 'even' WHERE n % 2 = 0", 3},
		{"MERGE INTO t USING big ON t.n = big.n AND big.n < 10 WHEN MATCHED AND t.n = 1 THEN DELETE WHEN NOT MATCHED AND big.n < 7 THEN INSERT VALUES (big.n, 'merged')", 3},
		{"DELETE FROM t WHERE n = 0", 1},
	} {
		if n, err := s.client.ExecuteUpdate(ctx, c.sql); n != c.rows || err != nil {
			t.Errorf("%s changed %d rows, error %v; want %d", c.sql, n, err, c.rows)
		}
	}
	s.wantValues(t, "2|even", "3|text", "4|even", "5|merged", "6|merged")(s.client.Execute(ctx, "SELECT n, s FROM t ORDER BY n"))
	must.Get(s.client.ExecuteUpdate(metadata.AppendToOutgoingContext(ctx, "bucket", "b"), "CREATE TABLE t AS SELECT 1 AS n"))(t)
	tabletest.WantCount(t, s.store.Bucket("b").Table("t"), 1)
	const noTransactions = "there are no transactions: each statement is one commit; connect with autocommit"
	for _, sql := range []string{"BEGIN", "COMMIT"} {
		_, err := s.client.ExecuteUpdate(ctx, sql)
		wantCode(t, err, codes.InvalidArgument, noTransactions)
	}
	_, err := s.client.BeginTransaction(ctx)
	wantCode(t, err, codes.Unimplemented, noTransactions)
	_, err = s.client.ExecuteUpdate(ctx, "DELETE FROM t; DELETE FROM big")
	wantCode(t, err, codes.InvalidArgument, "only one statement is allowed")
	_, err = s.client.ExecuteUpdate(ctx, "SELECT 1")
	wantCode(t, err, codes.InvalidArgument, "")
}

// TestSQLUpdateByTicket checks that a write that a client sends as a query runs when its ticket is used, and only once.
func TestSQLUpdateByTicket(t *testing.T) {
	s := serveDuck(t)
	ctx := t.Context()
	s.put(t, "", "t", 3)
	count := func() string {
		info, err := s.client.Execute(ctx, "SELECT count(*) FROM t")
		return s.values(t, info, err)[0]
	}
	info := must.Get(s.client.Execute(ctx, "INSERT INTO t SELECT n + 3, s FROM t"))(t)
	if info.Schema != nil {
		t.Error("the info of a write has a schema, so a client may end the call before the write is complete")
	}
	if got := count(); got != "3" {
		t.Errorf("before its ticket is used, the write changed the table to %s rows, want 3", got)
	}
	for range 2 {
		s.wantValues(t, "3")(info, nil) // rows changed
		if got := count(); got != "6" {
			t.Errorf("the table has %s rows, want 6", got)
		}
	}
	for _, sql := range []string{"DROP TABLE missing", "ALTER TABLE t ADD COLUMN s VARCHAR", "ALTER TABLE t DROP COLUMN missing"} { // fails although the ticket has an ID
		info, err := s.client.Execute(ctx, sql)
		if err == nil {
			_, _, err = s.fetch(t, info)
		}
		if err == nil {
			t.Errorf("%s by a ticket succeeded, want an error", sql)
		}
	}
	s.wantValues(t, "6")(s.client.Execute(ctx, "INSERT INTO t SELECT n + 3, s FROM t")) // another ticket of the same statement
}

// TestSQLUpdateID checks that the header "id" makes a write safe to repeat, with each call that can run a write.
func TestSQLUpdateID(t *testing.T) {
	s := serveDuck(t)
	s.put(t, "", "t", 3)
	const insert = "INSERT INTO t VALUES (7, 'new'), (8, 'new')"
	withID := func(id string) context.Context { return metadata.AppendToOutgoingContext(t.Context(), "id", id) }
	calls := map[string]func(id string) int64{
		"update": func(id string) int64 { return must.Get(s.client.ExecuteUpdate(withID(id), insert))(t) },
		"prepared": func(id string) int64 {
			return must.Get(must.Get(s.client.Prepare(withID(id), insert))(t).ExecuteUpdate(withID(id)))(t)
		},
		"query": func(id string) int64 {
			s.wantValues(t, "2")(s.client.Execute(withID(id), insert))
			return 2
		},
	}
	want := int64(3)
	for name, call := range calls {
		for range 2 {
			if n := call("the id of " + name); n != 2 {
				t.Errorf("%s changed %d rows, want 2", name, n)
			}
		}
		want += 2
		tabletest.WantCount(t, s.store.Bucket("").Table("t"), want)
	}
}

// TestSQLUpdateCancel checks that canceling a write needs a random id from its ticket, not the header "id", which
// others can guess.
func TestSQLUpdateCancel(t *testing.T) {
	s := serveDuck(t)
	s.put(t, "", "t", 3)
	info := must.Get(s.client.Execute(metadata.AppendToOutgoingContext(t.Context(), "id", "load of 5 May"), "DELETE FROM t"))(t)
	handle, _, _ := statementHandle(info.Endpoint[0].Ticket)
	st, err := parseStatement(handle)
	if err != nil || st.WriteID != "load of 5 May" || st.ID == st.WriteID || len(st.ID) < minIDLength {
		t.Errorf("the ticket has the id %q for canceling and %q for repeating, error %v; want a random one and %q", st.ID, st.WriteID, err, "load of 5 May")
	}
}

// TestSQLUpdateIDOfQuery checks that a SELECT with an id is refused, because the id would have no effect.
func TestSQLUpdateIDOfQuery(t *testing.T) {
	s := serveDuck(t)
	handle := must.Get(statement{operations.StatementHandle{SQL: "SELECT 1", WriteID: "a"}}.handle())(t)
	ticket, err := flightsql.CreateStatementQueryTicket(handle)
	must.Do(t, err)
	_, err = s.client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket})
	wantCode(t, err, codes.InvalidArgument, "only a statement that writes can have an id")
}

func TestSQLUpdatePrepared(t *testing.T) {
	s := serveDuck(t)
	ctx := t.Context()
	s.put(t, "", "t", 0)
	p := must.Get(s.client.Prepare(ctx, "INSERT INTO t VALUES (?, ?)"))(t)
	if isUpdate, ok := p.IsUpdate(); !isUpdate || !ok || p.ParameterSchema().NumFields() != 2 {
		t.Errorf("Prepare returned IsUpdate %v and the parameters %v, want an update with 2 parameters", isUpdate, p.ParameterSchema())
	}
	p.SetRecordReader(reader(t, numbers(3), numbers(0), numbers(4)))
	if n, err := p.ExecuteUpdate(ctx); n != 7 || err != nil {
		t.Errorf("two batches of parameters changed %d rows, error %v; want 7", n, err)
	}
	p.SetRecordReader(reader(t, numbers(0)))
	if n, err := p.ExecuteUpdate(ctx); n != 0 || err != nil {
		t.Errorf("no rows of parameters changed %d rows, error %v; want none", n, err)
	}
	p.SetParameters(numbers(1))
	s.wantValues(t, "1")(p.Execute(ctx)) // as a query, which returns the number of rows changed
	tabletest.WantCount(t, s.store.Bucket("").Table("t"), 8)
}

// TestSQLUpdateByHandle checks that the handle of a prepared write is no ticket, and that an update uses the parameters
// in its handle.
func TestSQLUpdateByHandle(t *testing.T) {
	s := serveDuck(t)
	s.put(t, "", "t", 0)
	stream := &bytes.Buffer{}
	w := ipc.NewWriter(stream, ipc.WithSchema(numbers(1).Schema()))
	must.Do(t, errors.Join(w.Write(numbers(1)), w.Close()))
	handle := must.Get(statement{operations.StatementHandle{SQL: "INSERT INTO t VALUES (?, ?)", Parameters: stream.Bytes()}}.handle())(t)
	ticket := packedCommand(t, &pb.CommandPreparedStatementQuery{PreparedStatementHandle: handle})
	r, err := s.client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket})
	for err == nil && r.Next() {
	}
	if err == nil {
		err = r.Err()
	}
	wantCode(t, err, codes.InvalidArgument, "needs a ticket from GetFlightInfo")
	if n, err := flightsql.NewPreparedStatement(s.client, handle).ExecuteUpdate(t.Context()); n != 1 || err != nil {
		t.Errorf("the update changed %d rows, error %v; want 1", n, err)
	}
	tabletest.WantCount(t, s.store.Bucket("").Table("t"), 1)
}

// TestSQLUpdateEscapes puts expressions that must be refused into each verb, and sends the statements in each way.
// No error may reveal a secret; see also TestHostileExec in package duck.
func TestSQLUpdateEscapes(t *testing.T) {
	t.Setenv("PARTD_TEST_SECRET", "hunter2")
	s := serveDuck(t)
	ctx := t.Context()
	s.put(t, "", "t", 3)
	for _, escape := range []string{"(SELECT content FROM read_text('/etc/passwd'))", "(SELECT max(s) FROM '/etc/passwd.csv')", "getenv('PARTD_TEST_SECRET')", "(SELECT max(value) FROM duckdb_settings())", "'a'; COPY (SELECT 1) TO 'OUT'"} {
		for _, sql := range []string{
			"INSERT INTO t VALUES (1, X)", "UPDATE t SET s = X", "DELETE FROM t WHERE s <> X", "CREATE TABLE x AS SELECT X AS a",
			"MERGE INTO t USING (SELECT 1 AS j) u ON n = j WHEN MATCHED THEN UPDATE SET s = X",
		} {
			sql = strings.Replace(sql, "X", escape, 1)
			_, err := s.client.ExecuteUpdate(ctx, sql)
			errs := map[string]error{"update": err}
			_, errs["prepare"] = s.client.Prepare(ctx, sql)
			info, err := s.client.Execute(ctx, sql)
			if err == nil {
				_, _, err = s.fetch(t, info)
			}
			errs["ticket"] = err
			for call, err := range errs {
				if code := status.Code(err); code != codes.InvalidArgument && code != codes.NotFound || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s of %s: error %v, want InvalidArgument or NotFound", call, sql, err)
				}
			}
		}
	}
	info, err := s.client.Execute(ctx, "SELECT count(*) || min(s) FROM t")
	if got := s.values(t, info, err); len(got) != 1 || !strings.HasPrefix(got[0], "3") {
		t.Errorf("after the refused statements, the table has %q", got)
	}
}

// TestSQLUpdateLimitsParameters checks that rows of parameters are refused if they and their copy exceed the memory of
// a put, which is 4 MiB here. The rows take 3 MiB.
func TestSQLUpdateLimitsParameters(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret, Memory: 16 << 20, MaxMessage: 4 << 20})
	client, _ := dialSQL(t, address, Admin)
	p := preparedStatement(t, client, "INSERT INTO t VALUES (?, ?)")
	p.SetRecordReader(reader(t, slices.Repeat([]arrow.RecordBatch{numbers(20_000)}, 7)...))
	_, err := p.ExecuteUpdate(t.Context())
	wantCode(t, err, codes.ResourceExhausted, "limit")
}

// TestSQLUpdateRights checks that each call that writes needs the right to write, even if its handle or ticket is from
// a caller that has this right.
func TestSQLUpdateRights(t *testing.T) {
	admin := serveDuck(t)
	ctx := t.Context()
	admin.put(t, "", "t", 3)
	const sql = "DELETE FROM t"
	info := must.Get(admin.client.Execute(ctx, sql))(t)
	prepared, err := admin.client.Prepare(ctx, sql)
	must.Do(t, err)
	reader, _ := dialSQL(t, strings.TrimPrefix(admin.url, "grpc://"), Read)
	for name, call := range map[string]func() error{
		"update":  func() error { _, err := reader.ExecuteUpdate(ctx, sql); return err },
		"query":   func() error { _, err := reader.Execute(ctx, sql); return err },
		"prepare": func() error { _, err := reader.Prepare(ctx, sql); return err },
		"handle": func() error {
			_, err := flightsql.NewPreparedStatement(reader, prepared.Handle()).ExecuteUpdate(ctx)
			return err
		},
		"ticket": func() error {
			r, err := reader.DoGet(ctx, info.Endpoint[0].Ticket)
			if err != nil {
				return err
			}
			for r.Next() {
			}
			return r.Err()
		},
	} {
		err := call()
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "the token allows reading only") {
			t.Errorf("%s with a read token = %v, want PermissionDenied", name, err)
		}
	}
	info, err = admin.client.Execute(ctx, "SELECT count(*) FROM t")
	if got := admin.values(t, info, err); !slices.Equal(got, []string{"3"}) {
		t.Errorf("after the refused writes, the table has %q rows, want 3", got)
	}
}

func TestSQLIngest(t *testing.T) {
	s := serveSQL(t, Admin)
	ctx := t.Context()
	const (
		missingCreates = flightsql.TableDefinitionOptionsTableNotExistOptionCreate
		missingFails   = flightsql.TableDefinitionOptionsTableNotExistOptionFail
		existsFails    = flightsql.TableDefinitionOptionsTableExistsOptionFail
		existsAppends  = flightsql.TableDefinitionOptionsTableExistsOptionAppend
		existsReplaces = flightsql.TableDefinitionOptionsTableExistsOptionReplace
	)
	ingest := func(o *flightsql.ExecuteIngestOpts) (int64, error) {
		if o.TableDefinitionOptions == nil {
			o.TableDefinitionOptions = &flightsql.TableDefinitionOptions{IfNotExist: missingCreates, IfExists: existsAppends}
		}
		return s.client.ExecuteIngest(ctx, reader(t, numbers(2), numbers(3)), o)
	}
	optionsFor := func(missing flightsql.TableDefinitionOptionsTableNotExistOption, exists flightsql.TableDefinitionOptionsTableExistsOption) *flightsql.ExecuteIngestOpts {
		bucket, catalog := "b", catalogName
		return &flightsql.ExecuteIngestOpts{
			Table: "t", Schema: &bucket, Catalog: &catalog,
			TableDefinitionOptions: &flightsql.TableDefinitionOptions{IfNotExist: missing, IfExists: exists},
		}
	}
	rows := func() int64 {
		info := must.Get(s.store.Bucket("b").Table("t").Info(ctx))(t)
		return info.Rows
	}
	_, err := ingest(optionsFor(missingFails, existsAppends))
	wantCode(t, err, codes.NotFound, "")
	_, err = ingest(optionsFor(missingFails, existsReplaces))
	wantCode(t, err, codes.NotFound, "")
	if n, err := ingest(optionsFor(missingCreates, existsFails)); n != 5 || err != nil {
		t.Errorf("the ingestion that creates the table = %d, error %v; want 5 rows", n, err)
	}
	_, err = ingest(optionsFor(missingCreates, existsFails))
	wantCode(t, err, codes.AlreadyExists, "")
	for _, missing := range []flightsql.TableDefinitionOptionsTableNotExistOption{missingFails, missingCreates} {
		if n, err := ingest(optionsFor(missing, existsAppends)); n != 5 || err != nil {
			t.Errorf("an appending ingestion = %d, error %v; want 5 rows", n, err)
		}
	}
	if rows() != 15 {
		t.Errorf("after appending twice, the table has %d rows, want 15", rows())
	}
	retried := optionsFor(missingCreates, existsAppends)
	retried.Options = map[string]string{"id": "one"}
	for range 2 {
		if _, err := ingest(retried); err != nil {
			t.Errorf("an ingestion with an id failed: %v", err)
		}
	}
	if rows() != 20 {
		t.Errorf("after an ingestion with the same id, the table has %d rows, want 20", rows())
	}
	if _, err := ingest(optionsFor(missingFails, existsReplaces)); err != nil || rows() != 5 {
		t.Errorf("after a replacing ingestion, the table has %d rows (error %v), want 5", rows(), err)
	}
	otherCatalog := "elsewhere"
	for text, o := range map[string]*flightsql.ExecuteIngestOpts{
		"temporary":      {Table: "x", Temporary: true},
		"catalog":        {Table: "x", Catalog: &otherCatalog},
		"whether or not": optionsFor(missingFails, existsFails),
		"option":         {Table: "x", Options: map[string]string{"fast": "yes"}},
		"zero byte":      {Table: "\x00"},
	} {
		must.Fail(t, must.Err(ingest(o)), text, "refused ingestion")
	}
	must.Fail(t, must.Err(s.store.Bucket("").Table("x").Info(ctx)), tables.ErrNotFound, "after refused ingestions, Table")
	rule := tables.RuleEdit{Add: []tables.Rule{{Name: "few", Kind: "range", Column: "n", Max: "1"}}}
	must.Do(t, s.store.Bucket("b").EditRules(ctx, rule))
	before := rows()
	_, err = ingest(optionsFor(missingCreates, existsAppends))
	wantCode(t, err, codes.InvalidArgument, `rule "few": 1 rows violate it: row 5 (n=2)`)
	if rows() != before {
		t.Errorf("the refused ingestion changed the table from %d to %d rows", before, rows())
	}
	readOnly := serveSQL(t, Read)
	_, err = readOnly.client.ExecuteIngest(ctx, reader(t, numbers(1)), optionsFor(missingCreates, existsAppends))
	wantCode(t, err, codes.PermissionDenied, "")
}
