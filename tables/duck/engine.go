//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
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
	spares  chan database.Runner
	scratch scratch

	opening sync.WaitGroup
	end     context.Context // at Close
	stop    context.CancelFunc
	mu      sync.Mutex
	lent    int64 // of the half of Options.Total that is not in equal parts
	opened  int   // so far, for the names of their directories
	coming  int   // spares, beside those that are there
}

var _ tables.Engine = (*Engine)(nil)

// threadMemory is what a thread of a statement wants, in bytes.
const threadMemory = 128 << 20

// How many databases wait for a query: one takes 10 to 20 ms to open, in a process
// of its own 100 ms.
const (
	maxSpares         = 2
	maxSpareProcesses = 4
)

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
	e.spares = make(chan database.Runner, maxSpares)
	if e.opts.Processes {
		e.spares = make(chan database.Runner, maxSpareProcesses)
	}
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
	close(e.spares)
	for db := range e.spares {
		db.Close()
	}
	return e.temp.Close()
}

// take returns a database that nobody used. Half of those that wait are for callers
// who have no other statement under way.
func (e *Engine) take(ctx context.Context) (database.Runner, error) {
	if worker.HasOthers(ctx) && len(e.spares) <= cap(e.spares)/2 {
		return e.open(ctx)
	}
	for {
		select {
		case db, ok := <-e.spares:
			if !ok {
				return nil, tables.ErrClosed
			}
			if db.Lives() {
				return db, nil
			}
			db.Close()
		default:
			return e.open(ctx)
		}
	}
}

// giveBack ends the use of a database, and makes one ready for a query to come, if
// there are not enough: both take longer than a small query.
func (e *Engine) giveBack(db database.Runner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isClosed() {
		db.Close()
		return
	}
	e.opened++
	dir := e.spill()
	wanted := len(e.spares)+e.coming < cap(e.spares)
	if wanted {
		e.coming++
	}
	e.opening.Go(func() {
		if !wanted {
			db.Close()
			return
		}
		spare := e.another(db, dir)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.coming--; spare != nil {
			e.spares <- spare
		}
	})
}

// another is a database in the place of one that was used; nil: there is none, and the
// query that finds none says why.
func (e *Engine) another(db database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // in which the next query may begin, or Close
	if db.Renew(e.limits(), dir) {
		return db
	}
	db.Close()
	select {
	case <-e.end.Done():
		return nil
	case <-time.After(pause):
	}
	spare, err := e.open(context.Background())
	if err != nil {
		return nil
	}
	if spare.Ready(e.end) != nil {
		spare.Close()
		return nil
	}
	return spare
}

// spill is a directory for what exceeds the memory. It wants mu.
func (e *Engine) spill() string { return filepath.Join(e.dir, fmt.Sprintf("spill-%d", e.opened)) }

func (e *Engine) isClosed() bool { return e.end.Err() != nil }

// limits are what a database begins with.
func (e *Engine) limits() *database.Options {
	return &database.Options{Memory: e.opts.Memory, MaxTemp: e.opts.MaxTemp, Threads: e.opts.Threads}
}

func (e *Engine) open(ctx context.Context) (database.Runner, error) {
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		return nil, tables.ErrClosed
	}
	e.opened++
	dir := e.spill()
	e.mu.Unlock()
	if e.opts.Processes {
		return database.OpenProcess(ctx, e.limits(), dir)
	}
	return database.Open(e.limits(), dir)
}

// query is one statement in work.
type query struct {
	e      *Engine
	store  *tables.Store
	o      tables.QueryOptions
	db     database.Runner
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
		q.e.giveBack(q.db)
	}
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
	q.db.Finish()
	q.e.giveBack(q.db)
	q.db = nil
	db, err := q.e.take(ctx)
	if err != nil {
		return nil, err
	}
	q.db = db
	db.Heed(ctx)
	if _, err := db.Names(j.SQL); err != nil { // it is asked for them first
		return nil, err
	}
	j.Threads, j.Spills = 1, true
	return db.Start(ctx, j)
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
	select {
	case q.e.slots <- struct{}{}:
		q.slot = true
	case <-ctx.Done():
		return nil, canceled.Err(ctx)
	}
	sql, err := q.shown(ctx, sql)
	if err != nil {
		return nil, err
	}
	if q.db, err = q.e.take(ctx); err != nil {
		return nil, err
	}
	q.db.Heed(ctx)
	names, err := q.db.Names(sql)
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
	return j, nil
}
