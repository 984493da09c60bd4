//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/worker"
)

// threadMemory is what a thread of a statement wants, in bytes.
const threadMemory = 128 << 20

// query is one statement in work.
type query struct {
	e      *Engine
	store  *tables.Store
	o      tables.QueryOptions
	lent   // without a database before take
	tables []*bound
	slot   bool
	memory int64 // of Engine.lent
}

func (q *query) close() {
	if q.db != nil {
		q.db.Finish()
	}
	for _, t := range q.tables {
		t.close()
	}
	q.e.lend(-q.memory)
	if q.slot {
		<-q.e.slots // nothing is left of the statement
	}
	if q.db != nil {
		q.e.giveBack(q.lent)
	}
}

// take gives the statement a database that may run those of a key.
func (q *query) take(ctx context.Context, key string) error {
	if q.db != nil {
		q.db.Finish()
		q.e.giveBack(q.lent)
		q.db, q.waited = nil, false
	}
	got, err := q.e.take(ctx, key)
	if err != nil {
		return err
	}
	q.lent = got
	q.db.Heed(ctx)
	return nil
}

// open begins a statement: it waits for its turn, and finds the tables that it names. It returns
// what is known of the statement.
func (q *query) open(ctx context.Context, sql string, o *tables.QueryOptions) (st prepared, err error) {
	q.o = *cmp.Or(o, new(tables.QueryOptions))
	switch {
	case q.o.Memory < 0:
		return st, fmt.Errorf("option Memory is %d: it cannot be negative", q.o.Memory)
	case len(sql) > MaxSQL:
		return st, fmt.Errorf("the statement has %d bytes, the limit is %d", len(sql), MaxSQL)
	case strings.ContainsRune(sql, 0):
		return st, errors.New("the statement holds a zero byte")
	case !utf8.ValidString(sql):
		return st, errors.New("the statement is not UTF-8")
	}
	if err := canceled.Err(ctx); err != nil {
		return st, err
	}
	if err := canceled.Send(ctx, q.e.slots, struct{}{}); err != nil {
		return st, err
	}
	q.slot = true
	if sql, err = q.shown(ctx, sql); err != nil {
		return st, err
	}
	st, found := q.e.prepared.find(statement{worker.Caller(ctx), q.o.Bucket, sql})
	if !found {
		if st.names, err = q.names(ctx, sql); err != nil {
			return st, err
		}
		q.e.prepared.keep(st)
	}
	q.tables, err = q.resolve(ctx, sql, st.names)
	return st, err
}

// names returns those of the tables in a statement.
func (q *query) names(ctx context.Context, sql string) (names []database.Name, err error) {
	if err := q.take(ctx, anyKey); err != nil {
		return nil, err
	}
	find := func() error {
		names, err = q.db.Names(sql)
		return err
	}
	err = q.try(ctx, find)
	if q.key != "" && database.NeedsMemory(err) && ctx.Err() == nil { // it has the little of another statement
		if err = q.take(ctx, ""); err == nil {
			err = q.try(ctx, find)
		}
	}
	return names, err
}

// try does something with the statement's database, and again with others if those died while they waited.
func (q *query) try(ctx context.Context, do func() error) error {
	err := do()
	for err != nil && q.waited && ctx.Err() == nil && !q.db.Lives() && !database.NeedsMemory(err) {
		if err = q.take(ctx, ""); err == nil {
			err = do()
		}
	}
	return err
}

// prepare returns what runs a statement where its tables can be read, and nothing else.
func (q *query) prepare(ctx context.Context, st prepared, describes bool) (*database.Job, error) {
	most := q.e.opts.Memory
	if t := q.e.opts.Total; t != 0 {
		most = min(most, t/2/int64(q.e.opts.Queries))
		q.memory = q.e.lend(q.e.opts.Memory - most)
		most += q.memory
	}
	if q.o.Memory > 0 {
		most = min(most, q.o.Memory)
	}
	j := &database.Job{SQL: st.sql, Memory: most, Parameters: q.o.Parameters}
	// Each thread holds what it sorts, groups or joins before that can be spilled.
	if n := max(1, int(most/threadMemory)); n < q.e.opts.Threads {
		j.Threads = n
	}
	isShared := true
	for _, t := range q.tables {
		if err := q.fill(ctx, t, describes); err != nil {
			return nil, database.ErrorAt(st.sql, t.at, err)
		}
		j.Views = append(j.Views, "CREATE SCHEMA IF NOT EXISTS "+t.within(), t.view())
		j.Paths = append(j.Paths, t.files...)
		if t.catalog != "" && !slices.Contains(j.Attach, t.catalog) {
			j.Attach = append(j.Attach, t.catalog)
		}
		isShared = isShared && !t.once
	}
	key := ""
	if isShared {
		key = j.Key()
	}
	if q.db == nil || q.key != "" && q.key != key {
		if err := q.take(ctx, key); err != nil {
			return nil, err
		}
	}
	q.key = key
	return j, nil
}

// failed is the error of an operation, if there is one, with why it was interrupted, which
// DuckDB does not say, and without paths.
func (q *query) failed(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if cause := canceled.Err(ctx); cause != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", cause, err)
	} else {
		err = canceled.Explain(ctx, err)
	}
	return &tables.OpError{Op: op, Err: q.hidePaths(err)}
}

// pathError is an error without the paths that it names.
type pathError struct {
	text string
	err  error
	at   *tables.SQLError // which is in err, without the paths; or nil
}

func (e *pathError) Error() string { return e.text }
func (e *pathError) Unwrap() error { return e.err }

// As finds the statement's error without the paths.
func (e *pathError) As(target any) bool {
	at, ok := target.(**tables.SQLError)
	if !ok || e.at == nil {
		return false
	}
	*at = e.at
	return true
}

// hidePaths keeps where the store and temporary files are from who asks: it may be
// somebody on another machine.
func (q *query) hidePaths(err error) error {
	hidden := &pathError{text: q.withoutPaths(err.Error()), err: err}
	if hidden.text == err.Error() {
		return err
	}
	if at, ok := errors.AsType[*tables.SQLError](err); ok {
		hidden.at = &tables.SQLError{Line: at.Line, Column: at.Column, Err: errors.New(q.withoutPaths(at.Err.Error()))}
	}
	return hidden
}

func (q *query) withoutPaths(text string) string {
	for _, t := range q.tables {
		for _, path := range t.files {
			text = strings.ReplaceAll(text, path, "a file of "+t.String())
		}
	}
	for _, dir := range []string{q.store.Dir(), q.e.dir, os.TempDir()} {
		text = strings.ReplaceAll(text, dir+string(filepath.Separator), "")
		text = strings.ReplaceAll(text, dir, "the directory")
	}
	return text
}
