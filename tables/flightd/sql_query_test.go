package flightd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// fakeEngine is an engine that knows three statements: "SELECT * FROM t" for any table of the bucket, "SELECT ?",
// which returns its parameters, and "SELECT forever", which never ends. It rejects all other statements.
type fakeEngine struct {
	queryEnded chan error
	batches    atomic.Int64 // number of batches that "SELECT forever" has yielded
}

func (f *fakeEngine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	switch {
	case sql == "SELECT ?" && o.Parameters != nil:
		return array.NewRecordReader(o.Parameters.Schema(), []arrow.RecordBatch{o.Parameters})
	case sql == "SELECT forever":
		schema := numbers(1).Schema()
		return array.ReaderFromIter(schema, func(yield func(arrow.RecordBatch, error) bool) {
			for ctx.Err() == nil && yield(numbers(1000), nil) {
				f.batches.Add(1)
			}
			f.queryEnded <- ctx.Err()
		}), nil
	case strings.HasPrefix(sql, "SELECT * FROM "):
		t := s.Bucket(o.Bucket).Table(strings.TrimPrefix(sql, "SELECT * FROM "))
		return t.Scan(ctx, nil)
	}
	return nil, &tables.SQLError{Line: 1, Column: 1, Err: fmt.Errorf("%q is wrong", sql)}
}

func (f *fakeEngine) Describe(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (*tables.QueryDescription, error) {
	parameters := arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.Null, Nullable: true}}, nil)
	switch {
	case sql == "SELECT ?" && o.Parameters == nil:
		return &tables.QueryDescription{Result: numbers(1).Schema(), Parameters: parameters}, nil
	case sql == "SELECT forever":
		return &tables.QueryDescription{Result: numbers(1).Schema()}, nil
	}
	r, err := f.Query(ctx, s, sql, o)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	return &tables.QueryDescription{Result: r.Schema()}, nil
}

func (f *fakeEngine) ColumnTypes(*arrow.Schema, *arrow.Schema) []string { return nil }

// numbers returns a batch of n rows, each with its index and a text.
func numbers(n int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	for i := range n {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprint("text ", i))
	}
	return b.NewRecordBatch()
}

func reader(t *testing.T, batches ...arrow.RecordBatch) array.RecordReader {
	t.Helper()
	return must.Get(array.NewRecordReader(batches[0].Schema(), batches))(t)
}

// sqlTest is a server, and a client with the tested rights.
type sqlTest struct {
	store  *tables.Store
	engine *fakeEngine
	client *flightsql.Client
	url    string
	token  string
}

type token string

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

func (token) RequireTransportSecurity() bool { return false }

// serveSQL starts a server with a fake engine, and a client with the given rights.
func serveSQL(t *testing.T, rights Rights) *sqlTest {
	t.Helper()
	f := &fakeEngine{queryEnded: make(chan error, 1)}
	return serveEngine(t, rights, f, f)
}

func serveEngine(t *testing.T, rights Rights, e tables.Engine, f *fakeEngine) *sqlTest {
	t.Helper()
	_, store, address := serveTables(t, &tables.Options{Engine: e}, &Options{Secret: testSecret, Grace: time.Second})
	url := "grpc://" + address
	client, signed := dialSQL(t, address, rights)
	return &sqlTest{store, f, client, url, signed}
}

// dialSQL returns a client of a server, and the client's token, which grants the given rights.
func dialSQL(t *testing.T, address string, rights Rights) (*flightsql.Client, string) {
	t.Helper()
	signed := must.Get(NewToken(testSecret, rights, "", time.Hour))(t)
	client := must.Get(flightsql.NewClient(address, nil, nil,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(token(signed))))(t)
	t.Cleanup(func() { client.Close() })
	return client, signed
}

func (s *sqlTest) put(t *testing.T, bucket, name string, rows int) {
	t.Helper()
	must.Get(s.store.Bucket(bucket).Table(name).Put(t.Context(), reader(t, numbers(rows)), tables.PutError, nil))(t)
}

// fetch returns the rows of all endpoints.
func (s *sqlTest) fetch(t *testing.T, info *flight.FlightInfo) (schema *arrow.Schema, all []arrow.RecordBatch, err error) {
	t.Helper()
	for _, e := range info.Endpoint {
		if len(e.Location) > 0 {
			t.Errorf("an endpoint has the location %v, want none", e.Location)
		}
		r, err := s.client.DoGet(t.Context(), e.Ticket)
		if err != nil {
			return nil, nil, err
		}
		schema = r.Schema()
		for r.Next() {
			b := r.RecordBatch()
			b.Retain()
			all = append(all, b)
		}
		if r.Err() != nil {
			return nil, nil, r.Err()
		}
	}
	return schema, all, nil
}

// wantValues returns a function that checks the rows of a query.
func (s *sqlTest) wantValues(t *testing.T, want ...string) func(*flight.FlightInfo, error) {
	return func(info *flight.FlightInfo, err error) {
		t.Helper()
		if got := s.values(t, info, err); !slices.Equal(got, want) {
			t.Errorf("the query returned %q, want %q", got, want)
		}
	}
}

// values returns the rows of fetch as text.
func (s *sqlTest) values(t *testing.T, info *flight.FlightInfo, err error) (rows []string) {
	t.Helper()
	must.Do(t, err)
	gotSchema, all, err := s.fetch(t, info)
	must.Do(t, err)
	if info.Schema != nil { // it is nil for statements with parameters
		output := must.Get(flight.DeserializeSchema(info.Schema, memory.DefaultAllocator))(t)
		if !output.Equal(gotSchema) {
			t.Errorf("the info's schema is %v, but the rows have the schema %v", output, gotSchema)
		}
	}
	for _, b := range all {
		for i := range int(b.NumRows()) {
			var row []string
			for _, c := range b.Columns() {
				row = append(row, c.ValueStr(i))
			}
			rows = append(rows, strings.Join(row, "|"))
		}
	}
	return rows
}
