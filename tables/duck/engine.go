//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/worker"
)

// Engine is a tables.Engine that runs DuckDB. It is safe for concurrent use.
type Engine struct {
	opts    Options
	temp    *tempdir.Set
	dir     string
	slots   chan struct{}
	scratch scratch

	prepared preparations

	opening sync.WaitGroup
	end     context.Context // at Close
	stop    context.CancelFunc
	mu      sync.Mutex
	idle    idle
	lent    int64 // of the half of Options.Total that is not in equal parts
	opened  int   // so far, for the names of their directories
	coming  int   // databases, beside those of idle
}

var _ tables.Engine = (*Engine)(nil)

// New returns an engine. Several stores may share it.
func New(o *Options) (*Engine, error) {
	e := &Engine{opts: *cmp.Or(o, new(Options))}
	e.opts.Memory = cmp.Or(e.opts.Memory, DefaultMemory)
	e.opts.Threads = cmp.Or(e.opts.Threads, runtime.GOMAXPROCS(0))
	e.opts.MaxTemp = cmp.Or(e.opts.MaxTemp, DefaultMaxTemp)
	e.opts.Queries = cmp.Or(e.opts.Queries, DefaultQueries)
	if e.opts.Memory < 16<<20 || e.opts.Threads < 1 || e.opts.MaxTemp < 0 || e.opts.Queries < 1 {
		return nil, fmt.Errorf("tables: options of SQL: Memory of %d bytes must be at least 16 MiB, Threads (%d) and Queries (%d) at least 1, MaxTemp (%d) not negative",
			e.opts.Memory, e.opts.Threads, e.opts.Queries, e.opts.MaxTemp)
	}
	if t := e.opts.Total; t != 0 && t/2/int64(e.opts.Queries) < 16<<20 {
		return nil, fmt.Errorf("tables: options of SQL: Total of %d bytes must be at least 32 MiB for each of %d Queries", t, e.opts.Queries)
	}
	if e.opts.Processes && !worker.Supported {
		return nil, fmt.Errorf("tables: options of SQL: Processes: %w on this system", errors.ErrUnsupported)
	}
	var err error
	if e.dir, e.temp, err = tempdir.Own(e.opts.TempDir); err != nil {
		return nil, fmt.Errorf("tables: a place for what SQL does not hold in memory: %w", err)
	}
	e.slots = make(chan struct{}, e.opts.Queries)
	e.end, e.stop = context.WithCancel(context.Background())
	e.scratch.dir = e.dir
	return e, nil
}

// Close removes the engine's temporary files. All queries must have ended, with their
// readers released.
func (e *Engine) Close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		return nil
	}
	e.stop()
	e.mu.Unlock()
	e.opening.Wait()
	for _, one := range e.idle {
		one.db.Close()
	}
	return e.temp.Close()
}

// Query implements tables.Engine.
func (e *Engine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (_ array.RecordReader, err error) {
	q := &query{e: e, store: s}
	defer func() {
		if err != nil {
			err = q.failed(ctx, "query", err)
			q.close()
		}
	}()
	st, err := q.open(ctx, sql, o)
	if err != nil {
		return nil, err
	}
	j, err := q.prepare(ctx, st, false)
	if err != nil {
		return nil, err
	}
	var result database.Rows
	err = q.try(ctx, func() error {
		result, err = q.db.Start(ctx, j)
		return err
	})
	if database.NeedsMemory(err) && ctx.Err() == nil {
		// A table of its keys has to be in memory whole, and is larger than what is left before DuckDB
		// begins to spill. In another database, with one thread, it is slower, but needs no such table.
		if err = q.take(ctx, ""); err == nil {
			j.Threads, j.Spills = 1, true
			result, err = q.db.Start(ctx, j)
		}
	}
	if err != nil {
		return nil, err
	}
	failed := func(err error) error { return q.failed(ctx, "query", err) }
	batches := arrowsafe.Until(func() (arrow.RecordBatch, error) {
		b, err := result.Next()
		return b, failed(err)
	})
	r := arrowsafe.Reader(result.Schema(), batches, func() {
		result.End()
		q.close()
	})
	if apart, ok := result.(undecoded); ok {
		return &encoded{RecordReader: r, apart: apart, failed: failed}, nil
	}
	return r, nil
}

// Describe implements tables.Engine.
func (e *Engine) Describe(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (_ *tables.QueryDescription, err error) {
	q := &query{e: e, store: s}
	defer q.close()
	defer func() { err = q.failed(ctx, "describe", err) }()
	st, err := q.open(ctx, sql, o)
	if err != nil {
		return nil, err
	}
	shape := shapeOf(q.tables)
	if st.description != nil && st.shape == shape {
		return new(*st.description), nil
	}
	j, err := q.prepare(ctx, st, true)
	if err != nil {
		return nil, err
	}
	d := &tables.QueryDescription{}
	err = q.try(ctx, func() error {
		d.Result, d.Parameters, err = q.db.Describe(j)
		return err
	})
	if err != nil {
		return nil, err
	}
	st.shape, st.description = shape, d
	q.e.prepared.keep(st)
	return new(*d), nil
}

// lend gives what is wanted, or half of what is left. What is negative comes back.
func (e *Engine) lend(wanted int64) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted = min(wanted, (e.opts.Total/2-e.lent)/2)
	e.lent += wanted
	return wanted
}

// undecoded is a result that came from another process.
type undecoded interface {
	Messages() iter.Seq2[arrowsafe.Message, error]
}

// encoded is a reader of such a result, which can also be read undecoded.
type encoded struct {
	array.RecordReader
	apart  undecoded
	failed func(error) error
	err    error
}

// Messages are the result, as Flight carries it, in the place of Next. Each is valid
// until the next one.
func (e *encoded) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m, err := range e.apart.Messages() {
			if err != nil {
				e.err = e.failed(err)
				return
			}
			if !yield(&flight.FlightData{DataHeader: m.Header, DataBody: m.Body}) {
				return
			}
		}
	}
}

func (e *encoded) Err() error { return cmp.Or(e.err, e.RecordReader.Err()) }
