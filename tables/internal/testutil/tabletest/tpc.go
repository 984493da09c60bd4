package tabletest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

//go:embed tpc.py
var tpcScript string

// TPCPeer is the name of the Python environment in which MakeTPC runs its script; see [procs.PythonPath].
const TPCPeer = "tpc"

// MakeTPC writes the tables of a benchmark to dir, with the given scale factor, and returns the benchmark's queries.
// kind is "tpch" or "tpcds". If answers is true, MakeTPC also writes DuckDB's answers to the queries.
func MakeTPC(ctx context.Context, kind string, scale float64, dir string, answers bool) (queries []string, err error) {
	python, err := procs.PythonPath(TPCPeer)
	if err != nil {
		return nil, err
	}
	args := []string{"-c", tpcScript, kind, fmt.Sprint(scale), dir}
	if answers {
		args = append(args, "answers")
	}
	if out, err := exec.CommandContext(ctx, python, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "queries.json"))
	if err != nil {
		return queries, err
	}
	err = json.Unmarshal(text, &queries)
	return queries, err
}

// PutTPC puts the tables that MakeTPC wrote to dir into a bucket.
func PutTPC(ctx context.Context, bucket *tables.Bucket, dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "tables", "*.parquet"))
	for _, path := range paths {
		if err = put(ctx, bucket, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return err
}

func put(ctx context.Context, bucket *tables.Bucket, path string) (err error) {
	f, err := file.OpenParquetFile(path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	table, err := r.ReadTable(ctx)
	if err != nil {
		return err
	}
	defer table.Release()
	rows := array.NewTableReader(table, 1<<16)
	defer rows.Release()
	_, err = bucket.Table(strings.TrimSuffix(filepath.Base(path), ".parquet")).Put(ctx, rows, tables.PutError, nil)
	return err
}
