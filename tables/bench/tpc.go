//go:build cgo && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

const (
	tpcFactor = 3           // maximum ratio to DuckDB's time, before tpcExtra is added
	tpcExtra  = 0.03        // seconds
	tpcLimit  = time.Minute // the timeout of a query
)

// tpcBench runs TPC-H and TPC-DS.
type tpcBench struct {
	*bench
	tpcScale float64
}

// measureTPC compares the times of TPC-H's and TPC-DS's queries with the times of a DuckDB that stays open,
// on Parquet files that DuckDB wrote. It returns an error if a query takes longer than tpcFactor and tpcExtra allow.
func (b *tpcBench) measureTPC() error {
	return errors.Join(b.measureTPCKind("tpch"), b.measureTPCKind("tpcds"))
}

func (b *tpcBench) measureTPCKind(kind string) error {
	dir, err := os.MkdirTemp(b.dir, kind)
	if err != nil {
		return err
	}
	queries, err := tabletest.MakeTPC(b.ctx, kind, b.tpcScale, dir, false)
	if err != nil {
		return err
	}
	return b.withSQL(&duck.Options{TempDir: b.dir}, tables.Options{FoldAge: -1}, func(s *tables.Store) error {
		if err := tabletest.PutTPC(b.ctx, s.Bucket("b"), dir); err != nil {
			return err
		}
		return withDuckDB(":memory:", func(conn duckdb.Connection) error { return b.compareTPCQueries(kind, queries, s, conn, dir) })
	})
}

func (b *tpcBench) compareTPCQueries(kind string, queries []string, s *tables.Store, conn duckdb.Connection, dir string) error {
	for info, err := range s.Bucket("b").Tables(b.ctx, nil) {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, "tables", info.Name+".parquet")
		if err := execDuckDB(conn, "CREATE VIEW "+info.Name+" AS SELECT * FROM '"+path+"'"); err != nil {
			return err
		}
	}
	var slow []error
	var sum, duckdbSum float64
	for i, sql := range queries {
		medians, err := inTurns(b.rounds, 0, func() error {
			ctx, cancel := context.WithTimeout(b.ctx, tpcLimit)
			defer cancel()
			return b.query(ctx, s, sql)
		}, func() error {
			if err := execDuckDB(conn, sql); err != nil {
				return fmt.Errorf("DuckDB: %w", err)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s query %d: %w", kind, i+1, err)
		}
		elapsed, duckdbElapsed := medians[0], medians[1]
		sum, duckdbSum = sum+elapsed, duckdbSum+duckdbElapsed
		if elapsed > tpcFactor*duckdbElapsed+tpcExtra {
			slow = append(slow, fmt.Errorf("%s query %d takes %.3f s, but DuckDB takes %.3f s", kind, i+1, elapsed, duckdbElapsed))
		}
	}
	fmt.Printf("%s: of %d queries, %d take longer than %d × and %g s\n", kind, len(queries), len(slow), tpcFactor, tpcExtra)
	job := fmt.Sprintf("all queries of %s at scale factor %v", kind, b.tpcScale)
	b.report(job, "tables", sum, b.rounds)
	b.report(job, "DuckDB, kept open", duckdbSum, b.rounds)
	return errors.Join(slow...)
}

// filesExpr returns the SQL expression with which DuckDB reads a table's files.
func (b *bench) filesExpr(s *tables.Store, name string) (string, error) {
	table := s.Bucket("b").Table(name)
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
