//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// statementsBench measures SQL over Flight.
type statementsBench struct {
	*bench
	fetchRows int
}

// measureStatements measures SQL statements over Flight that look up one row each, with one and with eight clients. Its
// peers are Python's ADBC client on our server, Quack and shoots.
func (b *statementsBench) measureStatements() error {
	return b.withPoints(b.rows, func(port int) error {
		for _, isPrepared := range []bool{false, true} {
			for _, n := range []int{1, 8} {
				times := make([]float64, b.rounds) // seconds per statement
				for i := range times {
					var err error
					if times[i], err = b.timePerStatement(fmt.Sprint("localhost:", port), n, isPrepared); err != nil {
						return err
					}
				}
				kind := map[bool]string{true: "prepared"}[isPrepared]
				b.report(statementsJob(fmt.Sprint(n), kind), "tables", benchdata.Median(times), b.rounds)
			}
		}
		return b.reportPeers("statements", []string{"adbc", "quack", "shoots"}, func(peer, key string) (job, contender string) {
			var n, kind string
			_, _ = fmt.Sscan(key, &n, &kind) // kind can be missing
			return statementsJob(n, kind), peer
		}, fmt.Sprint(port))
	})
}

func statementsJob(clients, kind string) string {
	return fmt.Sprintf("look up a row by SQL; clients: %s%s", clients, map[string]string{"prepared": ", prepared"}[kind])
}

// measureFetch measures fetching all rows of a table in Python, from our server by ADBC and from Quack's server.
func (b *statementsBench) measureFetch() error {
	return b.withPoints(b.fetchRows, func(port int) error {
		job := fmt.Sprintf("fetch %d rows of 2 columns by SQL", b.fetchRows)
		return b.reportPeers("fetch", []string{"adbc", "quack"}, func(peer, _ string) (string, string) {
			return job, map[string]string{"adbc": "tables", "quack": "quack"}[peer]
		}, fmt.Sprint(port))
	})
}

// withPoints serves a table "points" with n rows while f runs. Peers read the rows from a file.
func (b *statementsBench) withPoints(n int, f func(port int) error) error {
	batch := points(n)
	if err := b.writeRows(batch); err != nil {
		return err
	}
	// The limits are those of partd-tables serve --memory 4GiB.
	engine := &duck.Options{TempDir: b.dir, Memory: 512 << 20, Total: 2 << 30, Processes: true}
	return b.withSQL(engine, tables.Options{}, func(s *tables.Store) error {
		if err := b.put(s, "points", nil, batch); err != nil {
			return err
		}
		batch.Release()
		return b.serve(s, f)
	})
}

// points returns n rows with an id and a random value.
func points(n int) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "value", Type: arrow.PrimitiveTypes.Float64}}, nil)
	random := rand.New(rand.NewPCG(1, 1))
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Reserve(n)
	for i := range n {
		b.Field(0).(*array.Int64Builder).UnsafeAppend(int64(i))
		b.Field(1).(*array.Float64Builder).UnsafeAppend(random.Float64())
	}
	return b.NewRecordBatch()
}

// timePerStatement runs statements from n clients for a second and returns the seconds divided by the number of
// statements.
func (b *statementsBench) timePerStatement(address string, n int, isPrepared bool) (float64, error) {
	clients, errs := make([]*lookupClient, n), make([]error, n)
	for i := range clients {
		var err error
		if clients[i], err = newLookupClient(b.ctx, address, isPrepared); err != nil {
			return 0, err
		}
		defer clients[i].c.Close() //nolint:errcheck // the statements' errors suffice
	}
	var count atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range clients {
		random := rand.New(rand.NewPCG(2, uint64(i)))
		wg.Go(func() {
			for time.Since(start) < time.Second && errs[i] == nil {
				errs[i] = c.lookup(b.ctx, random.Int64N(int64(b.rows)))
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return time.Since(start).Seconds() / float64(count.Load()), errors.Join(errs...)
}

// lookupClient looks up rows of the table "points".
type lookupClient struct {
	c        *flightsql.Client
	prepared *flightsql.PreparedStatement // nil if the client sends SQL each time
}

func newLookupClient(ctx context.Context, address string, isPrepared bool) (*lookupClient, error) {
	c, err := flightsql.NewClient(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	l := &lookupClient{c: c}
	if isPrepared {
		l.prepared, err = c.Prepare(ctx, "SELECT id, value FROM b.points WHERE id = ?")
	}
	return l, err
}

func (l *lookupClient) lookup(ctx context.Context, id int64) (err error) {
	var info *flight.FlightInfo
	if l.prepared == nil {
		info, err = l.c.Execute(ctx, fmt.Sprintf("SELECT id, value FROM b.points WHERE id = %d", id))
	} else {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}}, nil))
		defer b.Release()
		b.Field(0).(*array.Int64Builder).Append(id)
		l.prepared.SetParameters(b.NewRecordBatch())
		info, err = l.prepared.Execute(ctx)
	}
	if err != nil {
		return err
	}
	r, err := l.c.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		return err
	}
	defer r.Release()
	if !r.Next() || r.RecordBatch().NumRows() != 1 || r.RecordBatch().Column(0).(*array.Int64).Value(0) != id {
		return fmt.Errorf("looking up %d did not return its row: %w", id, r.Err())
	}
	for r.Next() {
	}
	return r.Err()
}
