//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/canceled"
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

// threadMemory is what a thread of a statement wants, in bytes.
const threadMemory = 128 << 20

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

// query is one statement in work.
type query struct {
	e      *Engine
	store  *tables.Store
	o      tables.QueryOptions
	db     database.Runner
	key    string // of the statements that can have db; "": of any
	waited bool   // db did, for a statement
	tables []*bound
	slot   bool
	lent   int64 // of Engine.lent
}

func (q *query) close() {
	if q.db != nil {
		q.db.Finish()
	}
	for _, t := range q.tables {
		t.close()
	}
	q.e.lend(-q.lent)
	if q.slot {
		<-q.e.slots // nothing is left of the statement
	}
	if q.db != nil {
		q.e.giveBack(lent{db: q.db, key: q.key})
	}
}

// take gives the statement a database that may run those of a key.
func (q *query) take(ctx context.Context, key string) error {
	if q.db != nil {
		q.db.Finish()
		q.e.giveBack(lent{db: q.db, key: q.key})
		q.db = nil
	}
	got, err := q.e.take(ctx, key)
	if err != nil {
		return err
	}
	q.db, q.key, q.waited = got.db, got.key, got.waited
	q.db.Heed(ctx)
	return nil
}

// Query implements tables.Engine.
func (e *Engine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	q := &query{e: e, store: s}
	r, err := q.run(ctx, sql, o)
	if err != nil {
		err = &tables.OpError{Op: "query", Err: q.hidePaths(ended(ctx, err))}
		q.close()
		return nil, err
	}
	return r, nil
}

func (q *query) run(ctx context.Context, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	j, err := q.prepare(ctx, sql, o, false)
	if err != nil {
		return nil, err
	}
	result, err := q.db.Start(ctx, j)
	if database.NeedsMemory(err) && ctx.Err() == nil {
		result, err = q.spilling(ctx, j)
	}
	if err != nil {
		return nil, err
	}
	failed := func(err error) error {
		if err != nil {
			err = &tables.OpError{Op: "query", Err: q.hidePaths(ended(ctx, err))}
		}
		return err
	}
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

// spilling starts a statement once more in another database, that failed since a table
// of its keys has to be in memory whole, and is larger than what is left, before DuckDB
// begins to spill. It is slower, with one thread, but needs no such table.
func (q *query) spilling(ctx context.Context, j *database.Job) (database.Rows, error) {
	if err := q.take(ctx, ""); err != nil {
		return nil, err
	}
	j.Threads, j.Spills = 1, true
	return q.db.Start(ctx, j)
}

// Describe implements tables.Engine.
func (e *Engine) Describe(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (*tables.QueryDescription, error) {
	q := &query{e: e, store: s}
	defer q.close()
	d, err := q.describe(ctx, sql, o)
	if err != nil {
		return nil, &tables.OpError{Op: "describe", Err: q.hidePaths(ended(ctx, err))}
	}
	return d, nil
}

func (q *query) describe(ctx context.Context, sql string, o *tables.QueryOptions) (*tables.QueryDescription, error) {
	j, err := q.prepare(ctx, sql, o, true)
	if err != nil {
		return nil, err
	}
	d := &tables.QueryDescription{}
	d.Result, d.Parameters, err = q.db.Describe(j)
	return d, err
}

// lend gives what is wanted, or half of what is left. What is negative comes back.
func (e *Engine) lend(wanted int64) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted = min(wanted, (e.opts.Total/2-e.lent)/2)
	e.lent += wanted
	return wanted
}

// prepare finds what the statement names, and returns what runs it where that can
// be read, and nothing else. Only schemas are read if only those are wanted.
func (q *query) prepare(ctx context.Context, sql string, o *tables.QueryOptions, schemas bool) (*database.Job, error) {
	q.o = *cmp.Or(o, new(tables.QueryOptions))
	switch {
	case q.o.Memory < 0:
		return nil, fmt.Errorf("option Memory is %d: it cannot be negative", q.o.Memory)
	case len(sql) > MaxSQL:
		return nil, fmt.Errorf("the statement has %d bytes, the limit is %d", len(sql), MaxSQL)
	case strings.ContainsRune(sql, 0):
		return nil, errors.New("the statement holds a zero byte")
	case !utf8.ValidString(sql):
		return nil, errors.New("the statement is not UTF-8")
	}
	if err := canceled.Err(ctx); err != nil {
		return nil, err
	}
	if err := canceled.Send(ctx, q.e.slots, struct{}{}); err != nil {
		return nil, err
	}
	q.slot = true
	sql, err := q.shown(ctx, sql)
	if err != nil {
		return nil, err
	}
	if err := q.take(ctx, anyKey); err != nil {
		return nil, err
	}
	names, err := q.db.Names(sql)
	// What failed may be for the little memory of another statement, or died while it waited.
	for err != nil && q.waited && ctx.Err() == nil && (q.key != "" && database.NeedsMemory(err) || !q.db.Lives()) {
		if err := q.take(ctx, ""); err != nil {
			return nil, err
		}
		names, err = q.db.Names(sql)
	}
	if err != nil {
		return nil, err
	}
	if q.tables, err = q.resolve(ctx, sql, names, schemas); err != nil {
		return nil, err
	}
	most := q.e.opts.Memory
	if t := q.e.opts.Total; t != 0 {
		most = min(most, t/2/int64(q.e.opts.Queries))
		q.lent = q.e.lend(q.e.opts.Memory - most)
		most += q.lent
	}
	if q.o.Memory > 0 {
		most = min(most, q.o.Memory)
	}
	j := &database.Job{SQL: sql, Memory: most, Parameters: q.o.Parameters}
	for _, t := range q.tables {
		j.Views = append(j.Views, "CREATE SCHEMA IF NOT EXISTS "+t.within(), t.view())
	}
	// Each thread holds what it sorts, groups or joins before that can be spilled.
	if n := max(1, int(most/threadMemory)); n < q.e.opts.Threads {
		j.Threads = n
	}
	for _, t := range q.tables {
		j.Paths = append(j.Paths, t.files...)
		if t.catalog != "" && !slices.Contains(j.Attach, t.catalog) {
			j.Attach = append(j.Attach, t.catalog)
		}
	}
	key := j.Key()
	if slices.ContainsFunc(q.tables, func(t *bound) bool { return t.once }) {
		key = ""
	}
	if q.key != "" && q.key != key {
		if err := q.take(ctx, key); err != nil {
			return nil, err
		}
	}
	q.key = key
	return j, nil
}
