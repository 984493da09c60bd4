//go:build cgo && unix

package main

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

//go:embed hits.sql
var hitsQueries string

const (
	hitsMemory     = 4 << 30 // memory limit of a query, in bytes
	anyGroupsQuery = 18      // number of the query whose cells are not compared, because it may return any ten groups
)

// hitsBench measures queries like ClickBench's.
type hitsBench struct {
	*bench
	hitsRows int
}

// contender is a program that answers the queries of hits.sql.
type contender struct {
	name        string
	version     string                           // the version of DuckDB that the program uses
	loadSeconds float64                          // the seconds to load the rows
	bytes       int64                            // the size of the loaded rows on disk
	medians     []float64                        // the median time of each query
	query       func(sql string) (answer, error) // returns the result of a query whose columns are strings
	run         func(sql string) error           // runs a query without returning the result
}

type answer [][]string

// measureHits runs queries like ClickBench's on generated rows. Three contenders take turns: our SQL,
// DuckDB on its own table, and DuckDB on a Parquet file, all with the same build of DuckDB. A newer DuckDB,
// DuckLake, and DuckDB's Iceberg reader on our files run afterwards. Our SQL also runs in DuckDB, so its
// times differ from DuckDB's only by the cost of reading our files and of its separate process.
// All answers must be equal.
func (b *hitsBench) measureHits() error {
	path := filepath.Join(b.dir, "hits.parquet")
	if err := b.makeHits(path); err != nil {
		return err
	}
	engineOptions := &duck.Options{TempDir: b.dir, Memory: hitsMemory, Processes: true} // Processes is set, as in a server
	return b.withSQL(engineOptions, tables.Options{}, func(s *tables.Store) error {
		return withDuckDB(filepath.Join(b.dir, "hits.db"), func(conn duckdb.Connection) error {
			contenders, err := b.loadHits(s, conn, path)
			if err != nil {
				return err
			}
			answers, err := b.compareHits(contenders)
			if err != nil {
				return err
			}
			metadataPath, err := b.iceberg(s)
			if err != nil {
				return err
			}
			for _, peer := range []string{"duckdb", "ducklake", "duckiceberg"} {
				c, err := b.runHitsPeer(peer, metadataPath, answers)
				if err != nil {
					return err
				}
				contenders = append(contenders, c)
			}
			withRows := slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return len(a) == 0 })
			fmt.Printf("hits: all answers are equal; %d of %d have no rows\n", len(answers)-len(withRows), len(answers))
			b.reportHits(contenders)
			return nil
		})
	})
}

func (b *hitsBench) makeHits(path string) error {
	const step = 50_000
	rows := func(yield func(arrow.RecordBatch, error) bool) {
		for from := 0; from < b.hitsRows; from += step {
			if !yield(hits(from, min(step, b.hitsRows-from), b.hitsRows), nil) { // the reader releases the batch
				return
			}
		}
	}
	r := batches.Reader(hitsSchema(), rows, func() {})
	defer r.Release()
	_, err := parquetfile.Write(b.ctx, path, true, r)
	return err
}

// loadHits loads the rows into a store, into a DuckDB table, and into a Parquet file that
// DuckDB writes. It returns a contender for each.
func (b *hitsBench) loadHits(s *tables.Store, conn duckdb.Connection, rowsPath string) ([]*contender, error) {
	loadTime, err := seconds(func() error {
		return b.withParquet(rowsPath, func(r array.RecordReader) error {
			_, err := s.Bucket("b").Table("hits").Put(b.ctx, r, tables.PutAppend, nil)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	size, _, err := diskUse(s.Dir())
	if err != nil {
		return nil, err
	}
	ours := &contender{
		name: "tables", version: duckdb.LibraryVersion(), loadSeconds: loadTime, bytes: size,
		query: func(sql string) (answer, error) { return b.queryAnswer(s, sql) },
		run:   func(sql string) error { return b.query(b.ctx, s, sql) },
	}
	settings := []string{fmt.Sprintf("SET memory_limit='%dB'", int64(hitsMemory)), fmt.Sprint("SET threads=", runtime.GOMAXPROCS(0))}
	for _, sql := range settings {
		if err := execDuckDB(conn, sql); err != nil {
			return nil, err
		}
	}
	table, err := b.newDuckDBContender(conn, "DuckDB, table", "hits", filepath.Join(b.dir, "hits.db"),
		"CREATE TABLE hits AS FROM read_parquet('"+rowsPath+"'); CHECKPOINT")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "duckdb.parquet")
	file, err := b.newDuckDBContender(conn, "DuckDB, Parquet", "read_parquet('"+path+"')", path,
		"COPY (FROM read_parquet('"+rowsPath+"')) TO '"+path+"'")
	return []*contender{ours, table, file}, err
}

// newDuckDBContender returns a contender whose queries read from tableExpr. It first runs loadSQL, which must create the
// file at path.
func (b *hitsBench) newDuckDBContender(conn duckdb.Connection, name, tableExpr, path, loadSQL string) (*contender, error) {
	loadTime, err := seconds(func() error { return execDuckDB(conn, loadSQL) })
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	withTable := func(sql string) string { return strings.Replace(sql, "from hits", "from "+tableExpr+" AS hits", 1) }
	return &contender{
		name: name, version: duckdb.LibraryVersion(), loadSeconds: loadTime, bytes: info.Size(),
		query: func(sql string) (answer, error) { return b.duckdbAnswer(conn, withTable(sql)) },
		run:   func(sql string) error { return execDuckDB(conn, withTable(sql)) },
	}, nil
}

func hitsQueryList() []string {
	all := strings.Split(hitsQueries, ";")
	return all[:len(all)-1]
}

// withTextColumns wraps sql in a query that converts every column to text, and NULL to "".
func withTextColumns(sql string) string {
	return "SELECT coalesce(COLUMNS(*)::VARCHAR, '') FROM (" + sql + ")"
}

// compareHits runs each query several times with each contender, alternating between them. It returns the answers
// of the first contender, and an error if another contender's answers differ.
func (b *hitsBench) compareHits(contenders []*contender) (answers []answer, err error) {
	for i, sql := range hitsQueryList() {
		for k, c := range contenders {
			got, err := c.query(withTextColumns(sql))
			if err == nil && k == 0 {
				answers = append(answers, got)
			}
			if err == nil {
				err = compareAnswers(i+1, answers[i], got)
			}
			if err != nil {
				return nil, fmt.Errorf("query %d, %s: %w", i+1, c.name, err)
			}
		}
		var runs []func() error
		for _, c := range contenders {
			runs = append(runs, func() error {
				if err := c.run(sql); err != nil {
					return fmt.Errorf("query %d, %s: %w", i+1, c.name, err)
				}
				return nil
			})
		}
		medians, err := inTurns(b.rounds, spareTime, runs...)
		if err != nil {
			return nil, err
		}
		for k, c := range contenders {
			c.medians = append(c.medians, medians[k])
		}
	}
	return answers, nil
}

// runHitsPeer runs the queries with a peer. It returns an error if an answer differs from answers.
func (b *hitsBench) runHitsPeer(peer, metadataPath string, answers []answer) (*contender, error) {
	var got struct {
		Load    float64
		Bytes   int64
		Version string
		Rows    []answer
		Seconds []float64
	}
	if err := b.runPython("peers.py", peer, &got, peer, "hits", metadataPath); err != nil {
		return nil, err
	}
	for i, rows := range got.Rows {
		if err := compareAnswers(i+1, answers[i], rows); err != nil {
			return nil, fmt.Errorf("query %d, %s: %w", i+1, peer, err)
		}
	}
	newer := "DuckDB " + strings.TrimPrefix(got.Version, "v")
	names := map[string]string{"duckdb": newer, "ducklake": "DuckLake", "duckiceberg": "DuckDB, Iceberg"}
	return &contender{name: names[peer], version: got.Version, loadSeconds: got.Load, bytes: got.Bytes, medians: got.Seconds}, nil
}

// reportHits reports each query's times. It also prints each contender's total, and the geometric mean of its
// times relative to ours.
func (b *hitsBench) reportHits(contenders []*contender) {
	for i := range hitsQueryList() {
		for _, c := range contenders {
			b.report(fmt.Sprintf("query %d of %d hits", i+1, b.hitsRows), c.name, c.medians[i], b.rounds)
		}
	}
	for _, c := range contenders {
		ratio, sum := 0.0, 0.0
		for i, s := range c.medians {
			ratio += math.Log(s / contenders[0].medians[i])
			sum += s
		}
		fmt.Printf("%d hits, %s (DuckDB %s): loaded in %.2f s, %d MB; ours is %.2f × as fast, geometric mean\n",
			b.hitsRows, c.name, c.version, c.loadSeconds, c.bytes>>20, math.Exp(ratio/float64(len(c.medians))))
		b.report(fmt.Sprintf("43 queries of %d hits", b.hitsRows), c.name, sum, b.rounds)
	}
}

// compareAnswers returns an error that describes the first difference between two answers, or nil. Numbers
// may differ by a billionth.
func compareAnswers(query int, want, got answer) error {
	if len(want) != len(got) {
		return fmt.Errorf("the result has %d rows, ours has %d", len(got), len(want))
	}
	for i := range want {
		if len(want[i]) != len(got[i]) {
			return fmt.Errorf("row %d has %d columns, ours has %d", i+1, len(got[i]), len(want[i]))
		}
		for k := range want[i] {
			if query != anyGroupsQuery && !equalCells(want[i][k], got[i][k]) {
				return fmt.Errorf("row %d, column %d is %q, ours is %q", i+1, k+1, got[i][k], want[i][k])
			}
		}
	}
	return nil
}

func equalCells(want, got string) bool {
	if want == got {
		return true
	}
	if _, err := strconv.ParseInt(want, 10, 64); err == nil {
		return false
	}
	a, err := strconv.ParseFloat(want, 64)
	c, gotErr := strconv.ParseFloat(got, 64)
	return err == nil && gotErr == nil && math.Abs(a-c) <= 1e-9*math.Abs(a)
}

// queryAnswer runs a query in our SQL and returns its result. All columns must be strings.
func (b *hitsBench) queryAnswer(s *tables.Store, sql string) (all answer, err error) {
	err = b.eachBatch(b.ctx, s, sql, func(batch arrow.RecordBatch) error {
		for i := range int(batch.NumRows()) {
			row := make([]string, batch.NumCols())
			for k, c := range batch.Columns() {
				row[k] = strings.Clone(c.(*array.String).Value(i)) // a copy, because the batch's memory is reused
			}
			all = append(all, row)
		}
		return nil
	})
	return all, err
}

// duckdbAnswer returns the result of a query in DuckDB, which writes it to a file. All columns must
// be strings.
func (b *hitsBench) duckdbAnswer(conn duckdb.Connection, sql string) (answer, error) {
	path := filepath.Join(b.dir, "answer.csv")
	if err := execDuckDB(conn, "COPY ("+sql+") TO '"+path+"' (HEADER false, FORCE_QUOTE *)"); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // the file was only read
	return csv.NewReader(f).ReadAll()
}

// iceberg writes the store's only table to Iceberg files and returns the path of its metadata file.
func (b *bench) iceberg(s *tables.Store) (string, error) {
	if _, err := s.Fold(b.ctx, nil); err != nil {
		return "", err
	}
	var all []string
	err := filepath.WalkDir(s.Dir(), func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".metadata.json") {
			all = append(all, path)
		}
		return err
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s contains no Iceberg metadata file", s.Dir())
	}
	if err != nil {
		return "", err
	}
	return slices.Max(all), nil // the newest file: the names begin with an increasing number
}
