//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tpc"
)

const (
	tpcFactor = 3 // maximum ratio to DuckDB's time, before tpcExtra is added
	tpcExtra  = 30 * time.Millisecond
	tpcLimit  = time.Minute // the timeout of a query
)

// measureTPC compares the times of TPC-H's and TPC-DS's queries with the times of a DuckDB that stays open,
// on the same files. It returns an error if a query takes longer than tpcFactor and tpcExtra allow.
func (b *bench) measureTPC() (err error) {
	engine, err := duck.New(&duck.Options{TempDir: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	return errors.Join(b.measureTPCKind("tpch", engine), b.measureTPCKind("tpcds", engine))
}

func (b *bench) measureTPCKind(kind string, engine tables.Engine) error {
	dir, err := os.MkdirTemp(b.dir, kind)
	if err != nil {
		return err
	}
	queries, err := tpc.Make(b.ctx, kind, b.tpcScale, dir, false)
	if err != nil {
		return err
	}
	return b.withStore(&tables.Options{Engine: engine, FoldAge: -1}, func(s *tables.Store) error {
		if err := tpc.Put(b.ctx, s.Bucket("b"), dir); err != nil {
			return err
		}
		return withDuckDB(":memory:", func(conn duckdb.Connection) error { return b.compareTPCQueries(kind, queries, s, conn) })
	})
}

func (b *bench) compareTPCQueries(kind string, queries []string, s *tables.Store, conn duckdb.Connection) error {
	for info, err := range s.Bucket("b").Tables(b.ctx, nil) {
		if err != nil {
			return err
		}
		if err := b.createView(s, info.Name, conn); err != nil {
			return err
		}
	}
	var slow []error
	var sum, duckdbSum time.Duration
	for i, sql := range queries {
		var ourTimes, duckdbTimes []time.Duration
		for range b.rounds { // alternate, because the machine's speed varies
			start := time.Now()
			ctx, cancel := context.WithTimeout(b.ctx, tpcLimit)
			_, err := b.query(ctx, s, sql)
			cancel()
			if err != nil {
				return fmt.Errorf("%s query %d: %w", kind, i+1, err)
			}
			ourTimes = append(ourTimes, time.Since(start))
			start = time.Now()
			if err := execDuckDB(conn, sql); err != nil {
				return fmt.Errorf("%s query %d by DuckDB: %w", kind, i+1, err)
			}
			duckdbTimes = append(duckdbTimes, time.Since(start))
		}
		elapsed, duckdbElapsed := medianOf(ourTimes), medianOf(duckdbTimes)
		sum, duckdbSum = sum+elapsed, duckdbSum+duckdbElapsed
		if elapsed > tpcFactor*duckdbElapsed+tpcExtra {
			slow = append(slow, fmt.Errorf("%s query %d takes %v, but DuckDB takes %v", kind, i+1, elapsed, duckdbElapsed))
		}
	}
	fmt.Printf("%s, %d queries at scale factor %v: %v, DuckDB alone, kept open: %v; %d take longer than %d × and %v\n",
		kind, len(queries), b.tpcScale, sum, duckdbSum, len(slow), tpcFactor, tpcExtra)
	job := fmt.Sprintf("all queries of %s at scale factor %v", kind, b.tpcScale)
	return errors.Join(append(slow, b.writeFigure(job, "tables", sum.Seconds(), b.rounds), b.writeFigure(job, "DuckDB, kept open", duckdbSum.Seconds(), b.rounds))...)
}

func (b *bench) createView(s *tables.Store, name string, conn duckdb.Connection) error {
	files, err := b.filesExpr(s, name)
	if err != nil {
		return err
	}
	return execDuckDB(conn, "CREATE VIEW "+name+" AS SELECT * FROM "+files)
}

// filesExpr returns the SQL expression with which DuckDB reads a table's files.
func (b *bench) filesExpr(s *tables.Store, name string) (string, error) {
	table, err := s.Bucket("b").Table(b.ctx, name)
	if err != nil {
		return "", err
	}
	m, err := table.ScanPlan(b.ctx)
	if err != nil {
		return "", err
	}
	defer m.Close()
	var files []string
	for _, f := range m.Files {
		files = append(files, "'"+f.Path+"'")
	}
	return "read_parquet([" + strings.Join(files, ",") + "])", nil
}
