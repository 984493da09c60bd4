//go:build cgo && unix

// Command bench compares tables with pyiceberg, plain pyarrow, DuckDB, DuckLake, Quack, pandas,
// pystore and ArcticDB, on the same data in one run. It prints the medians of --rounds runs.
// Ratios are more meaningful than times.
//
//	cd tables && GOWORK=off go run ./bench
//	cd tables && GOWORK=off go run ./bench --only bulk,resample,series --rows 10000000 --series-rows 10000000
//	cd tables && GOWORK=off go run ./bench --only hits --hits-rows 10000000 --figures hits.jsonl
//	cd tables && GOWORK=off go run ./bench --only stream --stream-rows 300000
//	cd tables && GOWORK=off go run ./bench --only tpc
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/figures"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/formats"
)

type bench struct {
	ctx        context.Context
	dir        string
	rounds     int
	rows       int
	streamRows int
	seriesRows int
	hitsRows   int
	tpcScale   float64
	figures    string
}

func main() {
	duck.RunWorker()
	b := &bench{ctx: context.Background()}
	only := flag.String("only", "one,many,growing,bulk,stream,sql,resample,flight,series,writers,clients,hits,tpc", "benchmarks to run, separated by commas")
	flag.IntVar(&b.rounds, "rounds", 5, "runs of each test; the median is reported")
	flag.IntVar(&b.rows, "rows", 1_000_000, "rows of the bulk append, the scan and the resampling")
	flag.IntVar(&b.streamRows, "stream-rows", 50_000, "rows of the streaming benchmark, in batches of 10")
	flag.IntVar(&b.seriesRows, "series-rows", 1_000_000, "rows of the time series before the measured appends")
	flag.IntVar(&b.hitsRows, "hits-rows", 1_000_000, "rows of the table hits, for queries like ClickBench's")
	flag.Float64Var(&b.tpcScale, "tpc-scale", 0.05, "scale factor of TPC-H and TPC-DS")
	flag.StringVar(&b.figures, "figures", "", "add the medians to this `file`, in the format of docs/plots/draw")
	flag.Parse()
	if err := b.run(*only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (b *bench) run(only string) (err error) {
	if b.dir, err = os.MkdirTemp("", "tables-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	parts := map[string]func() error{
		"one": b.measureOne, "many": b.measureMany, "growing": b.measureGrowing, "bulk": b.measureBulk, "stream": b.measureStream, "sql": b.measureSQL, "flight": b.measureFlight,
		"resample": b.measureResample, "series": b.measureSeries, "writers": b.measureWriters, "clients": b.measureClients, "hits": b.measureHits,
		"tpc": b.measureTPC,
	}
	for name := range strings.SplitSeq(only, ",") {
		run, ok := parts[name]
		if !ok {
			return fmt.Errorf("unknown benchmark %q: --help lists all benchmarks", name)
		}
		if err := run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bench) withStore(o *tables.Options, f func(*tables.Store) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "store-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := tables.Open(b.ctx, dir, o)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

// median runs f in each round, and returns the median of the times that f returns.
func (b *bench) median(f func() (time.Duration, error)) (time.Duration, error) {
	times := make([]time.Duration, b.rounds)
	for i := range times {
		var err error
		if times[i], err = f(); err != nil {
			return 0, err
		}
	}
	return medianOf(times), nil
}

// medianOf sorts times and returns the median.
func medianOf(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func (b *bench) put(s *tables.Store, name string, batch arrow.RecordBatch) error {
	r, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
	if err != nil {
		return err
	}
	defer r.Release()
	_, err = s.Bucket("b").Put(b.ctx, name, r, tables.PutAppend, nil)
	return err
}

// runPeer runs peers.py in a peer's Python environment, and returns the seconds of each operation by name.
func (b *bench) runPeer(name string, args ...string) (map[string]float64, error) {
	out, err := b.runPython("peers.py", name, name, args...)
	if err != nil {
		return nil, err
	}
	seconds := map[string]float64{}
	return seconds, json.Unmarshal(out, &seconds)
}

// writeFigure writes the median time of a job to the file of --figures.
func (b *bench) writeFigure(job, who string, seconds float64, runs int) error {
	return figures.Append(b.figures, figures.Figure{Bench: "tables", Job: job, Contender: who, Value: 1000 * seconds, Unit: "ms", Runs: runs})
}

func perOperation(d time.Duration, n int) time.Duration { return d / time.Duration(n) }

// measureOne compares acknowledged appends of single rows with pyiceberg's commits of one row.
func (b *bench) measureOne() error {
	const n = 500
	row := trades(0, 1)
	var elapsed [2]time.Duration
	for i, sync := range []bool{false, true} {
		var err error
		if elapsed[i], err = b.median(func() (d time.Duration, _ error) {
			return d, b.withStore(&tables.Options{Sync: sync, FoldAge: -1}, func(s *tables.Store) error {
				if err := b.put(s, "t", row); err != nil {
					return err
				}
				start := time.Now()
				defer func() { d = time.Since(start) }()
				return b.repeat(n, func(int) error { return b.put(s, "t", row) })
			})
		}); err != nil {
			return err
		}
	}
	iceberg, err := b.runPeer("pyiceberg", "one")
	if err != nil {
		return err
	}
	commit := time.Duration(iceberg["commit"] * float64(time.Second))
	fmt.Printf("append one row, acknowledged: %v, with Sync %v; commit of one row with pyiceberg: %v, %.0f × and %.0f × as long\n",
		perOperation(elapsed[0], n), perOperation(elapsed[1], n), commit, commit.Seconds()*n/elapsed[0].Seconds(), commit.Seconds()*n/elapsed[1].Seconds())
	const job = "append 1 row, acknowledged"
	return errors.Join(b.writeFigure(job, "tables", elapsed[0].Seconds()/n, b.rounds), b.writeFigure(job, "tables, synced", elapsed[1].Seconds()/n, b.rounds),
		b.writeFigure(job, "pyiceberg", iceberg["commit"], b.rounds))
}

func (b *bench) repeat(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// measureMany creates many tables with an append of one row, and then appends another row to each.
func (b *bench) measureMany() error {
	for _, n := range []int{1, 1000, 10_000} {
		if err := b.withStore(&tables.Options{FoldAge: -1}, func(s *tables.Store) error {
			row := trades(0, 1)
			start := time.Now()
			if err := b.repeat(n, func(i int) error { return b.put(s, fmt.Sprint("t", i), row) }); err != nil {
				return err
			}
			creationTime := time.Since(start)
			start = time.Now()
			if err := b.repeat(n, func(i int) error { return b.put(s, fmt.Sprint("t", i), row) }); err != nil {
				return err
			}
			elapsed := time.Since(start)
			fmt.Printf("append one row to each of %d tables: %v, %v per row (first rows, which create the tables: %v per row)\n", n, elapsed, perOperation(elapsed, n), perOperation(creationTime, n))
			return errors.Join(b.writeFigure(fmt.Sprintf("append 1 row to each of %d tables", n), "tables", perOperation(elapsed, n).Seconds(), 1),
				b.writeFigure(fmt.Sprintf("make each of %d tables by 1 row", n), "tables", perOperation(creationTime, n).Seconds(), 1))
		}); err != nil {
			return err
		}
	}
	return nil
}

// measureGrowing appends rows to one table, and checks whether appends become slower.
func (b *bench) measureGrowing() error {
	return b.withStore(&tables.Options{}, func(s *tables.Store) error {
		row := trades(0, 1)
		done := 0
		for _, upTo := range []int{1, 10, 100, 1000, 10_000} {
			start, from := time.Now(), done
			for ; done < upTo; done++ {
				if err := b.put(s, "t", row); err != nil {
					return err
				}
			}
			elapsed := perOperation(time.Since(start), upTo-from)
			fmt.Printf("appends %d to %d to one table: %v per row\n", from+1, upTo, elapsed)
			if err := b.writeFigure(fmt.Sprintf("append rows %d to %d of a table", from+1, upTo), "tables", elapsed.Seconds(), 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// measureBulk appends many rows at once, and reads one column with a filter. Its peers are pyarrow,
// DuckDB, pyiceberg, DuckLake, Quack, and DuckDB's Iceberg reader on our files.
func (b *bench) measureBulk() error {
	batch := trades(0, b.rows)
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	var readTime time.Duration
	appendTime, err := b.median(func() (d time.Duration, _ error) {
		return d, b.withStore(nil, func(s *tables.Store) error {
			start := time.Now()
			if err := b.put(s, "t", batch); err != nil {
				return err
			}
			d = time.Since(start)
			var err error
			readTime, err = b.median(func() (time.Duration, error) { return b.measureScan(s) })
			return err
		})
	})
	if err != nil {
		return err
	}
	fmt.Printf("append %d rows: %v; read one column with a filter: %v\n", b.rows, appendTime, readTime)
	appending, filtering := fmt.Sprintf("append %d rows at once", b.rows), fmt.Sprintf("read a column of %d rows by a filter", b.rows)
	if err := errors.Join(b.writeFigure(appending, "tables", appendTime.Seconds(), b.rounds), b.writeFigure(filtering, "tables", readTime.Seconds(), b.rounds)); err != nil {
		return err
	}
	for _, peer := range []string{"pyarrow", "duckdb", "pyiceberg", "ducklake", "quack"} {
		elapsed, err := b.runPeer(peer, "bulk")
		if err != nil {
			return err
		}
		fmt.Printf("  %s: append %.3f s, read %.3f s: ours is %.2f × and %.2f × as fast\n", peer, elapsed["append"], elapsed["read"], elapsed["append"]/appendTime.Seconds(), elapsed["read"]/readTime.Seconds())
		if err := errors.Join(b.writeFigure(appending, peer, elapsed["append"], b.rounds), b.writeFigure(filtering, peer, elapsed["read"], b.rounds)); err != nil {
			return err
		}
	}
	return b.withStore(nil, func(s *tables.Store) error {
		if err := b.put(s, "t", batch); err != nil {
			return err
		}
		metadata, err := b.iceberg(s)
		if err != nil {
			return err
		}
		elapsed, err := b.runPeer("duckiceberg", "bulk", metadata)
		if err != nil {
			return err
		}
		fmt.Printf("  DuckDB's Iceberg reader on our files: read %.3f s: ours is %.2f × as fast\n", elapsed["read"], elapsed["read"]/readTime.Seconds())
		return b.writeFigure(filtering, "duckiceberg", elapsed["read"], b.rounds)
	})
}

func (b *bench) measureScan(s *tables.Store) (time.Duration, error) {
	start := time.Now()
	condition, err := filter.Parse("sym = 'S7' and price > 50")
	if err != nil {
		return 0, err
	}
	t, err := s.Bucket("b").Table(b.ctx, "t")
	if err != nil {
		return 0, err
	}
	r, err := t.Scan(b.ctx, &tables.ScanOptions{Columns: []string{"price"}, Filter: condition})
	if err != nil {
		return 0, err
	}
	defer r.Release()
	for r.Next() {
	}
	return time.Since(start), r.Err()
}

func writeParquet(path string, batch arrow.RecordBatch) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w, err := formats.NewWriter(formats.Parquet, f, batch.Schema(), false)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(w.Write(batch), w.Close(), f.Close())
}

// measureStream is like DuckLake's streaming benchmark: it appends rows like those of ClickBench's table
// hits in batches of 10. Each batch is synced before its append returns.
func (b *bench) measureStream() error {
	const size = 10
	batch := hits(0, size, 1_000_000)
	var sql time.Duration
	elapsed, err := b.median(func() (d time.Duration, _ error) {
		return d, b.withStore(&tables.Options{Sync: true}, func(s *tables.Store) error {
			start := time.Now()
			if err := b.repeat(b.streamRows/size, func(int) error { return b.put(s, "hits", batch) }); err != nil {
				return err
			}
			d = time.Since(start)
			start = time.Now()
			t, err := s.Bucket("b").Table(b.ctx, "hits")
			if err != nil {
				return err
			}
			info, err := t.Info(b.ctx)
			if sql = time.Since(start); err == nil && info.Rows != int64(b.streamRows/size*size) {
				err = fmt.Errorf("the table has %d rows, want %d", info.Rows, b.streamRows)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	ours := float64(b.streamRows) / elapsed.Seconds()
	fmt.Printf("stream of %d rows in batches of %d, %d columns, each synced: %.0f rows/s, counted in %v\n", b.streamRows, size, batch.NumCols(), ours, sql)
	job := fmt.Sprintf("append %d rows of %d columns, synced", size, batch.NumCols())
	if err := b.writeFigure(job, "tables", size/ours, b.rounds); err != nil {
		return err
	}
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	for _, peer := range []string{"duckdb", "ducklake", "quack", "pyiceberg"} {
		seconds, err := b.runPeer(peer, "stream")
		if err != nil {
			return err
		}
		for name, batchSeconds := range seconds {
			fmt.Printf("  %s: %.0f rows/s: ours is %.0f × as fast\n", name, size/batchSeconds, ours/(size/batchSeconds))
			if err := b.writeFigure(job, name, batchSeconds, b.rounds); err != nil {
				return err
			}
		}
	}
	return nil
}
