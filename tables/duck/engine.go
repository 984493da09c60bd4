//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// Engine is a tables.Engine that runs DuckDB. It is safe for concurrent use.
type Engine struct {
	resources
	tempDirs *tempdir.Set
}

var _ tables.Engine = (*Engine)(nil)

// New returns an engine, which several stores can share.
func New(o *Options) (*Engine, error) {
	e := &Engine{resources: resources{opts: *cmp.Or(o, new(Options))}}
	e.opts.Memory = cmp.Or(e.opts.Memory, DefaultMemory)
	e.opts.Threads = cmp.Or(e.opts.Threads, runtime.GOMAXPROCS(0))
	e.opts.MaxTemp = cmp.Or(e.opts.MaxTemp, DefaultMaxTemp)
	e.opts.Queries = cmp.Or(e.opts.Queries, DefaultQueries)
	if e.opts.Memory < 16<<20 || e.opts.Threads < 1 || e.opts.MaxTemp < 0 || e.opts.Queries < 1 {
		return nil, fmt.Errorf("tables: SQL options: Memory (%d bytes) must be at least 16 MiB, Threads (%d) and Queries (%d) at least 1, MaxTemp (%d) at least 0",
			e.opts.Memory, e.opts.Threads, e.opts.Queries, e.opts.MaxTemp)
	}
	if t := e.opts.Total; t != 0 && t/2/int64(e.opts.Queries) < 16<<20 {
		return nil, fmt.Errorf("tables: SQL options: Total (%d bytes) must be at least 32 MiB for each of the %d Queries", t, e.opts.Queries)
	}
	if e.opts.Processes && !worker.Supported {
		return nil, fmt.Errorf("tables: SQL options: Processes: %w on this system", errors.ErrUnsupported)
	}
	var err error
	e.dir, e.tempDirs, err = tempdir.NewDir(e.opts.TempDir)
	if err != nil {
		return nil, fmt.Errorf("tables: SQL options: TempDir: %w", err)
	}
	e.slots = make(chan struct{}, e.opts.Queries)
	e.scratch.dir = e.dir
	e.pool = newPool(&e.opts, e.dir, e.share(), e.slots)
	return e, nil
}

// Close removes the engine's temporary files. The caller must first release the readers of all queries.
func (e *Engine) Close() error {
	if e == nil || !e.pool.close() {
		return nil
	}
	return e.tempDirs.Close()
}

// Query implements tables.Engine.
func (e *Engine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (_ array.RecordReader, err error) {
	q := &query{e: &e.resources, resolver: resolver{store: s}}
	defer func() {
		if err != nil {
			err = q.wrapError(ctx, "query", err)
			q.close()
		}
	}()
	st, err := q.open(ctx, sql, o)
	if err != nil {
		return nil, err
	}
	if selected, err := q.selectRows(ctx, st); selected != nil || err != nil {
		return selected, err
	}
	j, err := q.prepare(ctx, false)
	if err != nil {
		return nil, err
	}
	var result database.Rows
	start := func() error {
		result, err = q.db.Start(ctx, j)
		return err
	}
	err = q.tryColumns(ctx, j, start)
	// memory that earlier statements freed can be fragmented: try a new database
	if database.NeedsMemory(err) && q.hasGrown && ctx.Err() == nil {
		key := q.key
		err = q.acquireDatabase(ctx, "")
		if err == nil {
			q.key = key
			err = q.whenReady(ctx, start)
		}
	}
	if database.NeedsMemory(err) && ctx.Err() == nil {
		// The statement needs a hash table of all keys, which did not fit into memory. A different database
		// with a single thread and Job.Spills is slower, but needs no such table.
		err = q.acquireDatabase(ctx, "")
		if err == nil {
			j.Threads, j.Spills = 1, true
			err = q.whenReady(ctx, start)
		}
	}
	if err != nil {
		return nil, err
	}
	q.addResult(st, result.Schema())
	wrap := func(err error) error { return q.wrapError(ctx, "query", err) }
	rows := batches.Until(func() (arrow.RecordBatch, error) {
		b, err := result.Next()
		return b, wrap(err)
	})
	r := batches.Reader(result.Schema(), rows, func() {
		result.End()
		q.close()
	})
	if raw, ok := result.(rawResult); ok {
		return &encodedReader{RecordReader: r, raw: raw, wrap: wrap}, nil
	}
	return r, nil
}

// Describe implements tables.Engine.
func (e *Engine) Describe(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (_ *tables.QueryDescription, err error) {
	q := &query{e: &e.resources, resolver: resolver{store: s}}
	defer q.close()
	defer func() { err = q.wrapError(ctx, "describe", err) }()
	st, err := q.open(ctx, sql, o)
	if err != nil {
		return nil, err
	}
	shape := shapeOf(q.tables)
	if st.description != nil && st.shape == shape {
		return new(*st.description), nil
	}
	j, err := q.prepare(ctx, true)
	if err != nil {
		return nil, err
	}
	d := &tables.QueryDescription{}
	err = q.tryColumns(ctx, j, func() error {
		d.Result, d.Parameters, err = q.db.Describe(j)
		return err
	})
	if err != nil {
		return nil, err
	}
	st.shape, st.result, st.description = shape, d.Result, d
	q.e.statements.add(st)
	return new(*d), nil
}

// ColumnTypes implements tables.Engine.
func (e *Engine) ColumnTypes(logical, stored *arrow.Schema) []string {
	types := make([]string, logical.NumFields())
	for i := range types {
		types[i] = sqlType(logical.Field(i).Type, stored.Field(i).Type)
	}
	return types
}

// rawResult is a result that another process sends as encoded messages.
type rawResult interface {
	Messages() iter.Seq2[arrowsafe.Message, error]
}

// encodedReader reads a rawResult, either decoded or as encoded messages.
type encodedReader struct {
	array.RecordReader
	raw  rawResult
	wrap func(error) error
	err  error
}

// Messages yields the result as Flight messages. A caller uses either Messages or Next. Each message is valid until the
// next message is yielded.
func (e *encodedReader) Messages() iter.Seq[*flight.FlightData] {
	return func(yield func(*flight.FlightData) bool) {
		for m, err := range e.raw.Messages() {
			if err != nil {
				e.err = e.wrap(err)
				return
			}
			if !yield(&flight.FlightData{DataHeader: m.Header, DataBody: m.Body}) {
				return
			}
		}
	}
}

func (e *encodedReader) Err() error { return cmp.Or(e.err, e.RecordReader.Err()) }
