//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

const (
	sqlRows     = 3_000_000
	spareTime   = 50 * time.Millisecond // time in which the engine opens a spare database for the next query
	filterQuery = "SELECT price FROM %s WHERE sym = 'S7' AND price > 50"
)

// sqlBench measures SQL on our files.
type sqlBench struct{ *bench }

// measureSQL compares queries with DuckDB on the same files.
func (b *sqlBench) measureSQL() error {
	return b.withSQL(&duck.Options{TempDir: b.dir}, tables.Options{FoldAge: -1}, func(s *tables.Store) error {
		for i := range 3 {
			if err := b.put(s, "t", nil, trades(i*sqlRows/3, sqlRows/3)); err != nil {
				return err
			}
		}
		if err := b.compareWithDuckDB(s); err != nil {
			return err
		}
		return b.measureSmall(s)
	})
}

// eachBatch runs a query and calls f for each batch of its result.
func (b *bench) eachBatch(ctx context.Context, s *tables.Store, sql string, f func(arrow.RecordBatch) error) error {
	r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
	if err != nil {
		return err
	}
	defer r.Release()
	for r.Next() {
		if err := f(r.RecordBatch()); err != nil {
			return err
		}
	}
	return r.Err()
}

// query runs a query and ignores its result.
func (b *bench) query(ctx context.Context, s *tables.Store, sql string) error {
	return b.eachBatch(ctx, s, sql, func(arrow.RecordBatch) error { return nil })
}

func (b *sqlBench) compareWithDuckDB(s *tables.Store) error {
	files, err := b.filesExpr(s, "t")
	if err != nil {
		return err
	}
	sql := fmt.Sprintf(filterQuery, files)
	return withDuckDB(":memory:", func(open duckdb.Connection) error {
		rounds := 3 * b.rounds
		medians, err := inTurns(rounds, 0,
			func() error { return b.query(b.ctx, s, fmt.Sprintf(filterQuery, "t")) },
			func() error {
				return withDuckDB(":memory:", func(conn duckdb.Connection) error { return execDuckDB(conn, sql) })
			},
			func() error { return execDuckDB(open, sql) })
		if err != nil {
			return err
		}
		for i, contender := range []string{"tables", "DuckDB, opened for each query", "DuckDB, kept open"} {
			b.report(fmt.Sprintf("SQL, a column of %d rows by a filter", sqlRows), contender, medians[i], rounds)
		}
		return nil
	})
}

func withDuckDB(path string, f func(duckdb.Connection) error) error {
	db, conn := duckdb.Database{}, duckdb.Connection{}
	if duckdb.Open(path, &db) == duckdb.StateError || duckdb.Connect(db, &conn) == duckdb.StateError {
		return errors.New("DuckDB cannot be opened")
	}
	defer duckdb.Close(&db)
	defer duckdb.Disconnect(&conn)
	return f(conn)
}

func execDuckDB(conn duckdb.Connection, sql string) error {
	var result duckdb.Result
	defer duckdb.DestroyResult(&result)
	if duckdb.Query(conn, sql, &result) == duckdb.StateError {
		return errors.New(duckdb.ResultError(&result))
	}
	return nil
}

// measureSmall measures the latency of small queries, first with a pause after each, and then without.
// In the pause, the engine opens a spare database.
func (b *sqlBench) measureSmall(s *tables.Store) error {
	if err := b.put(s, "small", nil, trades(0, 10)); err != nil {
		return err
	}
	rounds := 10 * b.rounds
	for _, c := range []struct {
		job   string
		pause time.Duration
	}{{"SQL over 10 rows, with a spare database", spareTime}, {"SQL over 10 rows, one query after the other", 0}} {
		medians, err := inTurns(rounds, c.pause, func() error { return b.query(b.ctx, s, "SELECT count(*) FROM small") })
		if err != nil {
			return err
		}
		b.report(c.job, "tables", medians[0], rounds)
	}
	return nil
}
