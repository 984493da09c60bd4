//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// threadMemory is the memory that each thread of a statement needs, in bytes.
const threadMemory = 128 << 20

type query struct {
	e *resources // the engine's resources
	resolver
	lease  // db is nil until acquireDatabase
	tables []*boundTable
	memory int64 // bytes borrowed by resources.borrow

	hasSlot   bool // whether the query occupies one of the slots
	hasWaited bool // whether awaitPermit was called
	hasPermit bool // whether the query has one of the pool's permits

	sql string // the statement
	lookup
}

// awaitPermit waits for a permit before the query's first use of a database.
func (q *query) awaitPermit(ctx context.Context) {
	if !q.hasWaited {
		q.hasWaited, q.hasPermit = true, q.e.pool.permits.await(ctx)
	}
}

func (q *query) close() {
	if q.db != nil {
		q.db.Finish()
	}
	for _, t := range q.tables {
		t.close()
	}
	q.e.giveBackMemory(q.memory)
	if q.hasSlot {
		<-q.e.slots // last, because the resources released above count against the limits
	}
	if q.db != nil {
		q.e.pool.give(q.lease, q.hasPermit)
	} else if q.hasPermit {
		q.e.pool.permits.end()
	}
}

// acquireDatabase gives back the query's database, if any, and leases a database that can run statements with the key.
func (q *query) acquireDatabase(ctx context.Context, key string) error {
	if q.db != nil {
		q.db.Finish()
		q.e.pool.give(q.lease, false)
		q.db, q.wasIdle = nil, false
	}
	c := alone
	if worker.HasOtherJobs(ctx) {
		c = crowded
		if q.hasPermit {
			c = sharing
		}
	}
	lease, err := q.e.pool.take(ctx, key, c)
	if err != nil {
		return err
	}
	q.lease = lease
	q.db.CancelWith(ctx)
	return nil
}

// whenReady waits until the query's database is open. Then it runs f.
func (q *query) whenReady(ctx context.Context, f func() error) error {
	if err := q.db.Ready(ctx); err != nil {
		return err
	}
	return f()
}

// open waits until fewer than Options.Queries queries are running. It then parses the statement, unless the statement
// is cached, and resolves the statement's tables.
func (q *query) open(ctx context.Context, sql string, o *tables.QueryOptions) (st prepared, err error) {
	q.o = *cmp.Or(o, new(tables.QueryOptions))
	if q.o.Memory < 0 {
		return st, fmt.Errorf("option Memory is %d: it must not be negative", q.o.Memory)
	}
	if err := cmp.Or(checkStatement(sql), canceled.Err(ctx)); err != nil {
		return st, err
	}
	if err := canceled.Send(ctx, q.e.slots, struct{}{}); err != nil {
		return st, err
	}
	q.hasSlot = true
	sql, err = q.replaceShow(ctx, sql)
	if err != nil {
		return st, err
	}
	q.sql = sql
	st, found := q.findIn(&q.e.statements, statement{worker.Caller(ctx), q.o.Bucket, sql})
	if st.result == nil { // otherwise, the statement may need no database
		q.awaitPermit(ctx)
	}
	if !found {
		names, err := q.parseNames(ctx, sql)
		if err != nil {
			return st, err
		}
		q.addTo(&q.e.statements, &st, names)
	}
	q.tables, err = q.resolve(ctx, sql, st.names)
	return st, err
}

// checkStatement returns an error if DuckDB must not get the text.
func checkStatement(sql string) error {
	switch {
	case strings.ContainsRune(sql, 0):
		return errors.New("the statement contains a zero byte")
	case !utf8.ValidString(sql):
		return errors.New("the statement is not valid UTF-8")
	}
	return sqlwrite.CheckLength(sql)
}

func (q *query) parseNames(ctx context.Context, sql string) (names []database.Name, err error) {
	if err := q.acquireDatabase(ctx, anyKey); err != nil {
		return nil, err
	}
	parse := func() error {
		names, err = q.db.TableNames(sql)
		return err
	}
	err = q.retryIfDead(ctx, parse)
	// an earlier statement may have lowered the database's memory limit
	if q.key != "" && database.NeedsMemory(err) && ctx.Err() == nil {
		err = q.acquireDatabase(ctx, "")
		if err == nil {
			err = q.retryIfDead(ctx, parse)
		}
	}
	return names, err
}

// retryIfDead runs f, which uses the query's database. If the database had been idle and turns out to be dead,
// retryIfDead acquires another database and runs f again.
func (q *query) retryIfDead(ctx context.Context, f func() error) error {
	err := q.whenReady(ctx, f)
	for err != nil && q.wasIdle && ctx.Err() == nil && !q.db.IsAlive() && !database.NeedsMemory(err) {
		err = q.acquireDatabase(ctx, "")
		if err == nil {
			err = q.whenReady(ctx, f)
		}
	}
	return err
}

// prepare returns the job for the query's statement, which can read only the statement's tables. If the query has no
// database that can run the job, prepare acquires one.
func (q *query) prepare(ctx context.Context, describeOnly bool) (*database.Job, error) {
	q.awaitPermit(ctx)
	limit := min(q.e.opts.Memory, q.e.share())
	if q.e.opts.Total != 0 {
		maximum := q.e.opts.Memory
		// Halve the maximum of a query with a permit, whose caller has other statements. Then the limit is the same whether these are just beginning
		// or ending, and the statements can use the same databases.
		if q.hasPermit {
			maximum /= 2
		}
		q.memory = q.e.borrow(maximum)
		limit += q.memory
	}
	if q.o.Memory > 0 {
		limit = min(limit, q.o.Memory)
	}
	j := &database.Job{SQL: q.sql, Memory: limit, Parameters: q.o.Parameters}
	// Each thread holds data in memory before it can spill, so the memory limits the number of threads.
	if n := max(1, int(limit/threadMemory)); n < q.e.opts.Threads {
		j.Threads = n
	}
	isShareable, footerBytes := true, int64(0)
	maxBitmaps := limit / 4 // for the deleted rows of all tables, in bytes
	for _, t := range q.tables {
		if err := t.setFiles(ctx, &q.e.scratch, q.e.opts.Memory/4, maxBitmaps, describeOnly); err != nil {
			return nil, sqltext.ErrorAt(q.sql, t.offset, err)
		}
		j.Tables = append(j.Tables, t.qualifiedSchema()+"."+sqltext.Name(t.name))
		for _, f := range t.files {
			j.Paths = append(j.Paths, f.Path)
		}
		if t.emptyFile != "" && !slices.Contains(j.Paths, t.emptyFile) {
			j.Paths = append(j.Paths, t.emptyFile)
		}
		for group := range fileGroups {
			if k := t.keepFunction(group); k.Name != "" {
				j.Keep = append(j.Keep, k)
				maxBitmaps -= k.Bytes()
			}
		}
		footerBytes += t.footerBytes()
		if t.catalog != "" && !slices.Contains(j.Attach, t.catalog) {
			j.Attach = append(j.Attach, t.catalog)
		}
		isShareable = isShareable && !t.isPrivate
	}
	j.Footers = footerBytes <= limit/16
	q.defineViews(j)
	key := ""
	if isShareable {
		key = j.Key()
	}
	if q.db == nil || q.key != "" && q.key != key {
		if err := q.acquireDatabase(ctx, key); err != nil {
			return nil, err
		}
	}
	q.key = key
	return j, nil
}

// defineViews sets j.Views to the statements that create the views of the query's tables, and j.HoldsFiles.
func (q *query) defineViews(j *database.Job) {
	j.Views, j.HoldsFiles = nil, slices.ContainsFunc(q.tables, (*boundTable).lacksSchema)
	for _, t := range q.tables {
		if t.schema != mainSchema || t.catalog != "" {
			j.Views = append(j.Views, "CREATE SCHEMA IF NOT EXISTS "+t.qualifiedSchema())
		}
		j.Views = append(j.Views, t.view())
	}
}

// tryColumns runs f, which uses a job's views. If the statement names a column that the views lack, tryColumns repeats
// f with views that have all columns, so that DuckDB's error suggests the right columns.
func (q *query) tryColumns(ctx context.Context, j *database.Job, f func() error) error {
	err := q.retryIfDead(ctx, f)
	if !database.IsBinderError(err) || ctx.Err() != nil {
		return err
	}
	for _, t := range q.tables {
		t.allColumns = true
	}
	views := j.Views
	q.defineViews(j)
	if slices.Equal(views, j.Views) {
		return err
	}
	return q.retryIfDead(ctx, f)
}

// wrapError wraps the error of an operation, if any. It adds the reason for an interruption, which DuckDB omits. It
// also removes paths.
func (q *query) wrapError(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	return &tables.OpError{Op: op, Err: q.hidePaths(q.explainMissing(explainInterrupt(ctx, err)))}
}

// explainMissing replaces DuckDB's error about a missing file of a table. DuckDB looks for a directory of that name,
// which it may not access, so it reports a permission error.
func (q *query) explainMissing(err error) error {
	if !strings.Contains(err.Error(), "Cannot access file") {
		return err
	}
	for _, t := range q.tables {
		for _, f := range t.files {
			if _, statErr := os.Stat(f.Path); strings.Contains(err.Error(), f.Path) && errors.Is(statErr, fs.ErrNotExist) {
				return fmt.Errorf("%w: the file %s of %s is missing: repair it with verify --repair-from, or restore the table from a backup", tables.ErrDamaged, filepath.Base(f.Path), t)
			}
		}
	}
	return err
}

// explainInterrupt adds the reason for an interruption to an error, if DuckDB omitted it.
func explainInterrupt(ctx context.Context, err error) error {
	if cause := canceled.Err(ctx); cause != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return canceled.Explain(ctx, err)
}

// pathError wraps an error and omits paths from its text.
type pathError struct {
	text     string
	err      error
	sqlError *sqltext.Error // the cause's sqltext.Error without paths, or nil
}

func (e *pathError) Error() string { return e.text }
func (e *pathError) Unwrap() error { return e.err }

// As implements the interface of errors.As, for an sqltext.Error without paths.
func (e *pathError) As(target any) bool {
	sqlError, ok := target.(**sqltext.Error)
	if !ok || e.sqlError == nil {
		return false
	}
	*sqlError = e.sqlError
	return true
}

// hidePaths removes the paths of the store and of temporary files from an error, because the caller may be
// on another machine.
func (q *query) hidePaths(err error) error {
	hidden := &pathError{text: q.removePaths(err.Error()), err: err}
	if hidden.text == err.Error() {
		return err
	}
	if sqlError, ok := errors.AsType[*sqltext.Error](err); ok {
		hidden.sqlError = &sqltext.Error{Line: sqlError.Line, Column: sqlError.Column, Err: errors.New(q.removePaths(sqlError.Err.Error()))}
	}
	return hidden
}

func (q *query) removePaths(text string) string {
	for _, t := range q.tables {
		for _, f := range t.files {
			text = strings.ReplaceAll(text, f.Path, "a file of "+t.String())
		}
	}
	for _, dir := range []string{q.store.Dir(), q.e.dir} {
		text = strings.ReplaceAll(text, dir+string(filepath.Separator), "")
		text = strings.ReplaceAll(text, dir, "the directory")
	}
	return text
}
