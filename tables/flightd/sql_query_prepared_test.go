package flightd

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc/codes"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// sharedTexts returns a batch of n rows, whose views refer to a single text of 128 KiB.
func sharedTexts(n int) arrow.RecordBatch {
	b := array.NewStringViewBuilder(memory.DefaultAllocator)
	b.Append(strings.Repeat("é", 64<<10))
	one := b.NewArray().Data()
	views := memory.NewBufferBytes(bytes.Repeat(one.Buffers()[1].Bytes()[:arrow.ViewHeaderSizeBytes], n))
	texts := array.MakeFromData(array.NewData(arrow.BinaryTypes.StringView, n, append([]*memory.Buffer{nil, views}, one.Buffers()[2:]...), nil, 0, 0))
	return array.NewRecordBatch(arrow.NewSchema([]arrow.Field{{Name: "s", Type: texts.DataType(), Nullable: true}}, nil), []arrow.Array{texts}, int64(n))
}

func preparedStatement(t *testing.T, c *flightsql.Client, sql string) *flightsql.PreparedStatement {
	t.Helper()
	return flightsql.NewPreparedStatement(c, must.Get(statement{operations.StatementHandle{SQL: sql}}.handle())(t))
}

// TestSharedParameters checks that a small message, whose rows refer to 4 GiB of text, is refused at once, wherever
// a client sends it.
func TestSharedParameters(t *testing.T) {
	_, _, address := serveTest(t, &Options{Secret: testSecret, Memory: 256 << 20, MaxMessage: 16 << 20})
	rows := sharedTexts(32 << 10)
	for name, call := range map[string]func(context.Context) error{
		"query": func(ctx context.Context) error {
			client, _ := dialSQL(t, address, Read)
			p := preparedStatement(t, client, "SELECT ?")
			p.SetRecordReader(reader(t, rows))
			_, err := p.Execute(ctx)
			return err
		},
		"update": func(ctx context.Context) error {
			client, _ := dialSQL(t, address, Admin)
			p := preparedStatement(t, client, "INSERT INTO t VALUES (?)")
			p.SetRecordReader(reader(t, rows))
			_, err := p.ExecuteUpdate(ctx)
			return err
		},
		"ingestion": func(ctx context.Context) error {
			client, _ := dialSQL(t, address, Admin)
			_, err := client.ExecuteIngest(ctx, reader(t, rows), &flightsql.ExecuteIngestOpts{Table: "t", TableDefinitionOptions: new(flightsql.TableDefinitionOptions)})
			return err
		},
	} {
		start := time.Now()
		err := call(t.Context())
		wantCode(t, err, codes.InvalidArgument, "its rows share values")
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: the server refused the rows after %v, want at most a second", name, took)
		}
	}
}

// TestBindUsesSlot checks that binding parameters waits for a slot of queries.
func TestBindUsesSlot(t *testing.T) {
	s, _, address := serveTest(t, &Options{Secret: testSecret, Queries: 1})
	ctx, end := s.NewCall(t.Context(), &serving.Caller{Rights: serving.Admin}, "")
	defer end(nil)
	release := must.Get(serving.AcquireQuery(ctx))(t)
	client, _ := dialSQL(t, address, Read)
	p := preparedStatement(t, client, "SELECT ?")
	p.SetParameters(numbers(1))
	done := make(chan error, 1)
	go func() {
		_, err := p.Execute(t.Context())
		done <- err
	}()
	waitFor(t, "binding parameters does not wait for a query slot", func() bool { _, waiting := s.Queries.Counts(); return waiting == 1 })
	release()
	must.Do(t, <-done)
}
