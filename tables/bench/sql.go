//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

const (
	sqlRows     = 3_000_000
	filterQuery = "SELECT price FROM %s WHERE sym = 'S7' AND price > 50"
)

// measureSQL compares queries with DuckDB on the same files.
func (b *bench) measureSQL() (err error) {
	engine, err := duck.New(&duck.Options{TempDir: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return b.withStore(&tables.Options{Engine: engine, FoldAge: -1}, func(s *tables.Store) error {
		for i := range 3 {
			if err := b.put(s, "t", trades(i*sqlRows/3, sqlRows/3)); err != nil {
				return err
			}
		}
		for _, run := range []func(*tables.Store) error{b.compareWithDuckDB, b.measureSmall, b.measureStreaming, b.measureCancellation} {
			if err := run(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) query(ctx context.Context, s *tables.Store, sql string) (rows int64, err error) {
	r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
	if err != nil {
		return 0, err
	}
	defer r.Release()
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	return rows, r.Err()
}

func (b *bench) compareWithDuckDB(s *tables.Store) error {
	files, err := b.filesExpr(s, "t")
	if err != nil {
		return err
	}
	sql := fmt.Sprintf(filterQuery, files)
	var ourTimes, openTimes, newTimes []time.Duration
	var rows int64
	err = withDuckDB(":memory:", func(warm duckdb.Connection) error {
		for range 3 * b.rounds { // alternate, because the machine's speed varies
			start := time.Now()
			if rows, err = b.query(b.ctx, s, fmt.Sprintf(filterQuery, "t")); err != nil {
				return err
			}
			ourTimes = append(ourTimes, time.Since(start))
			start = time.Now()
			if err := execDuckDB(warm, sql); err != nil {
				return err
			}
			openTimes = append(openTimes, time.Since(start))
			start = time.Now()
			if err := withDuckDB(":memory:", func(conn duckdb.Connection) error { return execDuckDB(conn, sql) }); err != nil {
				return err
			}
			newTimes = append(newTimes, time.Since(start))
		}
		return nil
	})
	if err != nil {
		return err
	}
	elapsed := medianOf(ourTimes)
	fmt.Printf("SQL, one column of %d rows with a filter: %v for %d rows; DuckDB alone, opened for each query: %v, ours takes %.2f × as long; DuckDB kept open, with its cache of files: %v, ours takes %.2f × as long\n",
		sqlRows, elapsed, rows, medianOf(newTimes), elapsed.Seconds()/medianOf(newTimes).Seconds(), medianOf(openTimes), elapsed.Seconds()/medianOf(openTimes).Seconds())
	job := fmt.Sprintf("SQL, a column of %d rows by a filter", sqlRows)
	return errors.Join(b.writeFigure(job, "tables", elapsed.Seconds(), len(ourTimes)), b.writeFigure(job, "DuckDB, opened for each query", medianOf(newTimes).Seconds(), len(newTimes)),
		b.writeFigure(job, "DuckDB, kept open", medianOf(openTimes).Seconds(), len(openTimes)))
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
func (b *bench) measureSmall(s *tables.Store) error {
	if err := b.put(s, "small", trades(0, 10)); err != nil {
		return err
	}
	var times []time.Duration
	for range 10 * b.rounds {
		start := time.Now()
		if _, err := b.query(b.ctx, s, "SELECT count(*) FROM small"); err != nil {
			return err
		}
		times = append(times, time.Since(start))
		time.Sleep(50 * time.Millisecond) // meanwhile, the engine opens a spare database
	}
	spareTime := medianOf(times)
	times = nil
	for range 10 * b.rounds {
		start := time.Now()
		if _, err := b.query(b.ctx, s, "SELECT count(*) FROM small"); err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	fmt.Printf("SQL over 10 rows: %v with a spare database; %v for queries in quick succession\n", spareTime, medianOf(times))
	return errors.Join(b.writeFigure("SQL over 10 rows, with a spare database", "tables", spareTime.Seconds(), 10*b.rounds),
		b.writeFigure("SQL over 10 rows, one query after the other", "tables", medianOf(times).Seconds(), 10*b.rounds))
}

func (b *bench) measureStreaming(s *tables.Store) error {
	const times = 7
	before, err := residentMemory()
	if err != nil {
		return err
	}
	r, err := s.Query(b.ctx, strings.Repeat("SELECT * FROM t UNION ALL ", times-1)+"SELECT * FROM t", &tables.QueryOptions{Bucket: "b"})
	if err != nil {
		return err
	}
	defer r.Release()
	var n, peak int64
	start := time.Now()
	for batches := 0; r.Next(); batches++ {
		n += r.RecordBatch().NumRows()
		if batches%100 == 0 {
			now, err := residentMemory()
			if err != nil {
				return err
			}
			peak = max(peak, now)
		}
	}
	elapsed := time.Since(start)
	fmt.Printf("SQL, %d rows streamed in %v: memory peaked %d MB above the initial %d MB\n", n, elapsed, (peak-before)>>20, before>>20)
	return errors.Join(r.Err(), b.writeFigure(fmt.Sprintf("SQL, %d rows streamed", n), "tables", elapsed.Seconds(), 1))
}

func residentMemory() (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", "self", "statm"))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// measureCancellation measures how long a query continues after its cancellation.
func (b *bench) measureCancellation(s *tables.Store) error {
	var maxDelay time.Duration
	for range b.rounds {
		ctx, cancel := context.WithCancel(b.ctx)
		var cancelTime time.Time
		time.AfterFunc(200*time.Millisecond, func() { cancelTime = time.Now(); cancel() })
		if _, err := b.query(ctx, s, "SELECT count(*) FROM t x, t y WHERE x.price + y.price < 0"); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("a canceled query returned %v, want context.Canceled", err)
		}
		maxDelay = max(maxDelay, time.Since(cancelTime))
	}
	fmt.Printf("SQL, canceled: the query ends within %v\n", maxDelay)
	return b.writeFigure("SQL, cancelled, until it ends at most", "tables", maxDelay.Seconds(), b.rounds)
}
