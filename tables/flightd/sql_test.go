package flightd

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/go-partd/partd/internal/testutil/must"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want code %v with the text %q", err, code, text)
	}
}

func TestSQLStatement(t *testing.T) {
	s := serveSQL(t, Read)
	s.put(t, "", "t", 3)
	s.put(t, "b", "u", 2)
	ctx := t.Context()
	s.wantValues(t, "0|text 0", "1|text 1", "2|text 2")(s.client.Execute(ctx, "SELECT * FROM t"))
	// A header selects the bucket, and the ticket then contains the bucket's name.
	s.wantValues(t, "0|text 0", "1|text 1")(s.client.Execute(metadata.AppendToOutgoingContext(ctx, "bucket", "b"), "SELECT * FROM u"))
	_, err := s.client.Execute(ctx, "SELECT * FROM u")
	wantCode(t, err, codes.NotFound, `"u"`)
	_, err = s.client.Execute(ctx, "SELEKT")
	wantCode(t, err, codes.InvalidArgument, "line 1, column 1")
	if schema, err := s.client.GetExecuteSchema(ctx, "SELECT * FROM t"); err != nil {
		t.Errorf("GetExecuteSchema failed: %v", err)
	} else if got, err := flight.DeserializeSchema(schema.Schema, memory.DefaultAllocator); err != nil || !got.HasField("n") {
		t.Errorf("GetExecuteSchema returned %v, error %v; want column n", got, err)
	}
	_, err = s.client.ExecuteUpdate(ctx, "DROP TABLE t")
	wantCode(t, err, codes.PermissionDenied, "the token allows reading only")
}

// TestSQLTicketsAreStateless checks that a ticket also works on another server, and that invalid tickets are refused.
func TestSQLTicketsAreStateless(t *testing.T) {
	a, b := serveSQL(t, Read), serveSQL(t, Read)
	a.put(t, "", "t", 1)
	b.put(t, "", "t", 5)
	info := must.Get(a.client.Execute(t.Context(), "SELECT * FROM t"))(t)
	if _, all, err := b.fetch(t, info); err != nil || len(all) != 1 || all[0].NumRows() != 5 {
		t.Errorf("the other server returned %v, error %v; want one batch of 5 rows", all, err)
	}
	for _, handle := range []string{"", "{", `{"sql":7}`, `{"sql":"SELECT ?","parameters":"////"}`, `{"sql":"SELECT ?","parameters":""}`} {
		ticket := must.Get(flightsql.CreateStatementQueryTicket([]byte(handle)))(t)
		r, err := a.client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket})
		if err == nil {
			for r.Next() {
			}
			err = r.Err()
		}
		if c := status.Code(err); c != codes.InvalidArgument {
			t.Errorf("a ticket with handle %q: got %v, want InvalidArgument", handle, err)
		}
	}
}

func TestSQLPrepared(t *testing.T) {
	s := serveSQL(t, Read)
	ctx := t.Context()
	p, err := s.client.Prepare(ctx, "SELECT ?")
	must.Do(t, err)
	if p.ParameterSchema().NumFields() != 1 || p.DatasetSchema().NumFields() != 2 {
		t.Errorf("Prepare returned parameters %v and result %v, want 1 and 2 columns", p.ParameterSchema(), p.DatasetSchema())
	}
	before := p.Handle()
	for _, n := range []int{1, 1} { // bind twice; the second binding must replace the first
		p.SetParameters(numbers(n))
		s.wantValues(t, "0|text 0")(p.Execute(ctx))
	}
	if bytes.Equal(before, p.Handle()) {
		t.Error("binding parameters did not change the handle")
	}
	p.SetParameters(numbers(2))
	_, err = p.Execute(ctx)
	wantCode(t, err, codes.InvalidArgument, "single row")
	for size, want := range map[int]codes.Code{400 << 10: codes.OK, 600 << 10: codes.ResourceExhausted, 2 << 20: codes.ResourceExhausted} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil))
		b.Field(0).(*array.StringBuilder).Append(strings.Repeat("x", size))
		p.SetParameters(b.NewRecordBatch())
		if _, err := p.Execute(ctx); status.Code(err) != want {
			t.Errorf("Execute with parameters of %d KiB: got %v, want %v", size>>10, err, want)
		}
	}
	must.Do(t, p.Close(ctx))
	if _, err := s.client.Prepare(ctx, "SELEKT"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Prepare of an invalid statement = %v, want InvalidArgument", err)
	}
}

func TestSQLCancel(t *testing.T) {
	s := serveSQL(t, Read)
	ctx := t.Context()
	info := must.Get(s.client.Execute(ctx, "SELECT forever"))(t)
	cancel := func() flight.CancelStatus {
		return must.Get(s.client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info}))(t).Status
	}
	if got := cancel(); got != flight.CancelStatusNotCancellable {
		t.Errorf("canceling before the query runs returned %v, want NotCancellable", got)
	}
	r := must.Get(s.client.DoGet(ctx, info.Endpoint[0].Ticket))(t)
	if !r.Next() {
		t.Fatal(r.Err())
	}
	// This execution is not running, because no client reads its rows, although another one of the same statement is.
	notRunning, err := s.client.Execute(ctx, "SELECT forever")
	must.Do(t, err)
	if r, err := s.client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: notRunning}); err != nil || r.Status != flight.CancelStatusNotCancellable {
		t.Errorf("canceling an execution that is not running returned %v, error %v; want NotCancellable", r, err)
	}
	for sent := int64(-1); s.engine.batches.Load() != sent; time.Sleep(200 * time.Millisecond) {
		sent = s.engine.batches.Load() // wait until the server blocks on this client, which receives nothing
	}
	if got := cancel(); got != flight.CancelStatusCancelled {
		t.Errorf("canceling the running query returned %v, want Cancelled", got)
	}
	select {
	case err := <-s.engine.queryEnded:
		if err == nil {
			t.Error("the query ended without being canceled")
		}
	case <-time.After(time.Minute):
		t.Fatal("the canceled query still runs after a minute")
	}
	for r.Next() {
	}
	wantCode(t, r.Err(), codes.Canceled, "cancelled")
	if got := cancel(); got != flight.CancelStatusNotCancellable {
		t.Errorf("canceling the query a second time returned %v, want NotCancellable", got)
	}
	for _, garbage := range []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: []byte("x")}}, {}} {
		_, err = s.client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: &flight.FlightInfo{Endpoint: []*flight.FlightEndpoint{garbage}}})
		wantCode(t, err, codes.InvalidArgument, "ticket")
	}
}

// TestSQLClientGone checks that a query is canceled when its client disconnects.
func TestSQLClientGone(t *testing.T) {
	s := serveSQL(t, Read)
	info := must.Get(s.client.Execute(t.Context(), "SELECT forever"))(t)
	must.Get(s.client.DoGet(t.Context(), info.Endpoint[0].Ticket))(t)
	s.client.Close()
	select {
	case <-s.engine.queryEnded:
	case <-time.After(5 * time.Second):
		t.Fatal("the query of a disconnected client still runs after 5 seconds")
	}
}

func TestSQLCatalog(t *testing.T) {
	s := serveSQL(t, Read)
	ctx := t.Context()
	s.put(t, "", "t", 1)
	s.put(t, "b_1", "a%b", 1)
	s.put(t, "bx1", "T", 1)
	s.wantValues(t, "partd")(s.client.GetCatalogs(ctx))
	s.wantValues(t, "TABLE")(s.client.GetTableTypes(ctx))
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		o    *flightsql.GetDBSchemasOpts
		want []string
	}{
		{&flightsql.GetDBSchemasOpts{}, []string{"partd|b_1", "partd|bx1", "partd|default"}},
		{&flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: text("b_1")}, []string{"partd|b_1", "partd|bx1"}},
		{&flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: text(`b\_1`)}, []string{"partd|b_1"}},
		{&flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: text("")}, []string{"partd|default"}},
		{&flightsql.GetDBSchemasOpts{Catalog: text("other")}, nil},
	} {
		s.wantValues(t, c.want...)(s.client.GetDBSchemas(ctx, c.o))
	}
	for _, c := range []struct {
		o    *flightsql.GetTablesOpts
		want []string
	}{
		{&flightsql.GetTablesOpts{}, []string{"partd|b_1|a%b|TABLE", "partd|bx1|T|TABLE", "partd|default|t|TABLE"}},
		{&flightsql.GetTablesOpts{TableNameFilterPattern: text("t")}, []string{"partd|default|t|TABLE"}},
		{&flightsql.GetTablesOpts{TableNameFilterPattern: text(`a\%_`)}, []string{"partd|b_1|a%b|TABLE"}},
		{&flightsql.GetTablesOpts{TableNameFilterPattern: text("%"), DbSchemaFilterPattern: text("bx%")}, []string{"partd|bx1|T|TABLE"}},
		{&flightsql.GetTablesOpts{TableTypes: []string{"VIEW"}}, nil},
	} {
		s.wantValues(t, c.want...)(s.client.GetTables(ctx, c.o))
	}
	info := must.Get(s.client.GetTables(ctx, &flightsql.GetTablesOpts{IncludeSchema: true, TableNameFilterPattern: text("T")}))(t)
	_, all, err := s.fetch(t, info)
	must.Do(t, err)
	schema, err := flight.DeserializeSchema(all[0].Column(4).(interface{ Value(int) []byte }).Value(0), memory.DefaultAllocator)
	if err != nil || !arrow.TypeEqual(schema.Field(0).Type, arrow.PrimitiveTypes.Int64) {
		t.Errorf("GetTables included the schema %v, error %v; want an int64 column first", schema, err)
	}
	ref := flightsql.TableRef{Table: "t"}
	for name, get := range map[string]func() (*flight.FlightInfo, error){
		"primary keys":    func() (*flight.FlightInfo, error) { return s.client.GetPrimaryKeys(ctx, ref) },
		"exported keys":   func() (*flight.FlightInfo, error) { return s.client.GetExportedKeys(ctx, ref) },
		"imported keys":   func() (*flight.FlightInfo, error) { return s.client.GetImportedKeys(ctx, ref) },
		"cross reference": func() (*flight.FlightInfo, error) { return s.client.GetCrossReference(ctx, ref, ref) },
	} {
		info, err := get()
		if got := s.values(t, info, err); len(got) > 0 {
			t.Errorf("%s: got %q, want no keys", name, got)
		}
	}
	const unknown = flightsql.SqlInfo(9999)
	infos, err := s.client.GetSqlInfo(ctx, []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName, unknown})
	if got := s.values(t, infos, err); len(got) != 1 || !strings.Contains(got[0], "partd-tables") {
		t.Errorf("GetSqlInfo returned %q, want only the server's name", got)
	}
	if infos, err = s.client.GetSqlInfo(ctx, []flightsql.SqlInfo{unknown}); len(s.values(t, infos, err)) != 0 {
		t.Error("GetSqlInfo returned a value for an unknown id")
	}
	if infos, err = s.client.GetSqlInfo(ctx, nil); len(s.values(t, infos, err)) < 20 {
		t.Error("GetSqlInfo without ids returned fewer than 20 infos")
	}
}

// TestSQLNamesOfTheCatalog checks that SQL and ingestion accept the names that the catalog lists, whether or not
// a bucket is called "default".
func TestSQLNamesOfTheCatalog(t *testing.T) {
	s := serveDuck(t)
	ctx := t.Context()
	s.put(t, "", "t", 1)
	s.put(t, "b.c", `T"x`, 2)
	s.put(t, "partd", "t", 3)
	listTables := func() (all []string) {
		info, err := s.client.GetTables(ctx, &flightsql.GetTablesOpts{})
		for _, row := range s.values(t, info, err) {
			all = append(all, strings.TrimSuffix(row, "|TABLE"))
		}
		return all
	}
	quoted := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	counts := func() (all []string) {
		for _, name := range listTables() {
			part := strings.Split(name, "|")
			for _, schemaName := range []string{quoted(part[1]), part[0] + "." + quoted(part[1])} {
				info, err := s.client.Execute(ctx, "SELECT count(*) FROM "+schemaName+"."+quoted(part[2]))
				all = append(all, s.values(t, info, err)...)
			}
		}
		return all
	}
	if got := counts(); !slices.Equal(got, []string{"2", "2", "1", "1", "3", "3"}) {
		t.Errorf("the tables %q have the row counts %q, want 2, 1 and 3, each twice", listTables(), got)
	}
	ingest := func() {
		bucket := "default"
		_, err := s.client.ExecuteIngest(ctx, reader(t, numbers(5)), &flightsql.ExecuteIngestOpts{Table: "t", Schema: &bucket, TableDefinitionOptions: &flightsql.TableDefinitionOptions{
			IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate, IfExists: flightsql.TableDefinitionOptionsTableExistsOptionAppend,
		}})
		if err != nil {
			t.Error(err)
		}
	}
	ingest()
	if got := counts(); !slices.Contains(got, "6") {
		t.Error("the rows were not ingested into the default bucket:", listTables(), got)
	}
	s.put(t, "default", "t", 4)
	ingest()
	s.wantValues(t, "9", "6")(s.client.Execute(ctx, `SELECT count(*) FROM partd."default".t UNION ALL SELECT count(*) FROM t`)) // bucket default, and the default bucket
	if got := listTables(); !slices.Contains(got, "partd||t") || !slices.Contains(got, "partd|default|t") {
		t.Errorf("GetTables listed %q, want both tables named t", got)
	}
	_, err := s.client.Execute(ctx, "SELECT * FROM other.b.t")
	wantCode(t, err, codes.InvalidArgument, "the only catalog is partd")
}
