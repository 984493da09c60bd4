//go:build cgo && unix

// Command bench compares tables with pyiceberg, plain pyarrow, DuckDB, DuckLake, Quack, pandas,
// pystore and ArcticDB, on the same data in one run. It prints the medians of --rounds. Ratios
// are more meaningful than times.
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
	only := flag.String("only", "one,many,growing,bulk,stream,sql,resample,flight,series,writers,clients,hits,tpc", "what to measure")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds, of which the median counts")
	flag.IntVar(&b.rows, "rows", 1_000_000, "rows of the bulk append, the scan and the resampling")
	flag.IntVar(&b.streamRows, "stream-rows", 50_000, "rows of the streaming benchmark, in batches of 10")
	flag.IntVar(&b.seriesRows, "series-rows", 1_000_000, "rows of the time series that is appended to")
	flag.IntVar(&b.hitsRows, "hits-rows", 1_000_000, "rows of hits, of which ClickBench's questions are asked")
	flag.Float64Var(&b.tpcScale, "tpc-scale", 0.05, "scale factor of TPC-H and TPC-DS")
	flag.StringVar(&b.figures, "figures", "", "add what is measured to this `file`, a line of JSON for each figure, as docs/plots/draw reads them")
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
		"one": b.one, "many": b.many, "growing": b.growing, "bulk": b.bulk, "stream": b.stream, "sql": b.sql, "flight": b.flight,
		"resample": b.resample, "series": b.series, "writers": b.writers, "clients": b.clients, "hits": b.hitsSQL,
		"tpc": b.tpc,
	}
	for name := range strings.SplitSeq(only, ",") {
		part, ok := parts[name]
		if !ok {
			return fmt.Errorf("there is nothing named %q to measure", name)
		}
		if err := part(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// store runs f on a new store.
func (b *bench) store(o *tables.Options, f func(*tables.Store) error) (err error) {
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
	return middle(times), nil
}

// middle sorts times and returns the median.
func middle(times []time.Duration) time.Duration {
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

// peer runs peers.py in a peer's Python environment, and returns the seconds by name.
func (b *bench) peer(name string, args ...string) (map[string]float64, error) {
	out, err := b.python("peers.py", name, name, args...)
	if err != nil {
		return nil, err
	}
	seconds := map[string]float64{}
	return seconds, json.Unmarshal(out, &seconds)
}

// figure writes the median time of a job to the file of --figures.
func (b *bench) figure(job, who string, seconds float64, runs int) error {
	return figures.Append(b.figures, figures.Figure{Bench: "tables", Job: job, Contender: who, Value: 1000 * seconds, Unit: "ms", Runs: runs})
}

// each returns the time of one of n operations.
func each(d time.Duration, n int) time.Duration { return d / time.Duration(n) }

// one compares acknowledged appends of single rows with pyiceberg's commits of one row.
func (b *bench) one() error {
	const n = 500
	row := trades(0, 1)
	var took [2]time.Duration
	for i, sync := range []bool{false, true} {
		var err error
		if took[i], err = b.median(func() (d time.Duration, _ error) {
			return d, b.store(&tables.Options{Sync: sync, FoldAge: -1}, func(s *tables.Store) error {
				if err := b.put(s, "t", row); err != nil {
					return err
				}
				start := time.Now()
				defer func() { d = time.Since(start) }()
				return b.times(n, func(int) error { return b.put(s, "t", row) })
			})
		}); err != nil {
			return err
		}
	}
	iceberg, err := b.peer("pyiceberg", "one")
	if err != nil {
		return err
	}
	commit := time.Duration(iceberg["commit"] * float64(time.Second))
	fmt.Printf("append one row, acknowledged: %v, with Sync %v; a commit of pyiceberg %v: %.0f × and %.0f ×\n",
		each(took[0], n), each(took[1], n), commit, commit.Seconds()*n/took[0].Seconds(), commit.Seconds()*n/took[1].Seconds())
	const job = "append 1 row, acknowledged"
	return errors.Join(b.figure(job, "tables", took[0].Seconds()/n, b.rounds), b.figure(job, "tables, synced", took[1].Seconds()/n, b.rounds),
		b.figure(job, "pyiceberg", iceberg["commit"], b.rounds))
}

func (b *bench) times(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// many creates many tables with an append of one row, and then appends another row to each.
func (b *bench) many() error {
	for _, n := range []int{1, 1000, 10_000} {
		if err := b.store(&tables.Options{FoldAge: -1}, func(s *tables.Store) error {
			row := trades(0, 1)
			start := time.Now()
			if err := b.times(n, func(i int) error { return b.put(s, fmt.Sprint("t", i), row) }); err != nil {
				return err
			}
			made := time.Since(start)
			start = time.Now()
			if err := b.times(n, func(i int) error { return b.put(s, fmt.Sprint("t", i), row) }); err != nil {
				return err
			}
			took := time.Since(start)
			fmt.Printf("one row to each of %d tables: %v, %v a row (the first ones, which make the tables: %v)\n", n, took, each(took, n), each(made, n))
			return errors.Join(b.figure(fmt.Sprintf("append 1 row to each of %d tables", n), "tables", each(took, n).Seconds(), 1),
				b.figure(fmt.Sprintf("make each of %d tables by 1 row", n), "tables", each(made, n).Seconds(), 1))
		}); err != nil {
			return err
		}
	}
	return nil
}

// growing appends rows to one table, and checks whether appends become slower.
func (b *bench) growing() error {
	return b.store(&tables.Options{}, func(s *tables.Store) error {
		row := trades(0, 1)
		done := 0
		for _, upTo := range []int{1, 10, 100, 1000, 10_000} {
			start, from := time.Now(), done
			for ; done < upTo; done++ {
				if err := b.put(s, "t", row); err != nil {
					return err
				}
			}
			took := each(time.Since(start), upTo-from)
			fmt.Printf("appends %d to %d to one table: %v a row\n", from+1, upTo, took)
			if err := b.figure(fmt.Sprintf("append rows %d to %d of a table", from+1, upTo), "tables", took.Seconds(), 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// bulk appends many rows at once, and reads one column with a filter. Its peers are pyarrow,
// DuckDB, pyiceberg, DuckLake, Quack, and DuckDB's Iceberg reader on our files.
func (b *bench) bulk() error {
	batch := trades(0, b.rows)
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	var reading time.Duration
	wrote, err := b.median(func() (d time.Duration, _ error) {
		return d, b.store(nil, func(s *tables.Store) error {
			start := time.Now()
			if err := b.put(s, "t", batch); err != nil {
				return err
			}
			d = time.Since(start)
			var err error
			reading, err = b.median(func() (time.Duration, error) { return b.scan(s) })
			return err
		})
	})
	if err != nil {
		return err
	}
	fmt.Printf("append %d rows: %v; read one column of them by a filter: %v\n", b.rows, wrote, reading)
	appending, filtering := fmt.Sprintf("append %d rows at once", b.rows), fmt.Sprintf("read a column of %d rows by a filter", b.rows)
	if err := errors.Join(b.figure(appending, "tables", wrote.Seconds(), b.rounds), b.figure(filtering, "tables", reading.Seconds(), b.rounds)); err != nil {
		return err
	}
	for _, peer := range []string{"pyarrow", "duckdb", "pyiceberg", "ducklake", "quack"} {
		took, err := b.peer(peer, "bulk")
		if err != nil {
			return err
		}
		fmt.Printf("  %s: %.3f s and %.3f s: ours is %.2f × and %.2f × as fast\n", peer, took["append"], took["read"], took["append"]/wrote.Seconds(), took["read"]/reading.Seconds())
		if err := errors.Join(b.figure(appending, peer, took["append"], b.rounds), b.figure(filtering, peer, took["read"], b.rounds)); err != nil {
			return err
		}
	}
	return b.store(nil, func(s *tables.Store) error {
		if err := b.put(s, "t", batch); err != nil {
			return err
		}
		metadata, err := b.iceberg(s)
		if err != nil {
			return err
		}
		took, err := b.peer("duckiceberg", "bulk", metadata)
		if err != nil {
			return err
		}
		fmt.Printf("  DuckDB's reader of Iceberg, of our files: %.3f s: ours is %.2f × as fast\n", took["read"], took["read"]/reading.Seconds())
		return b.figure(filtering, "duckiceberg", took["read"], b.rounds)
	})
}

func (b *bench) scan(s *tables.Store) (time.Duration, error) {
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

// stream is like DuckLake's streaming benchmark: it appends generated rows of ClickBench's
// hits in batches of 10, each acknowledged after a sync.
func (b *bench) stream() error {
	const size = 10
	batch := hits(0, size, 1_000_000)
	var sql time.Duration
	took, err := b.median(func() (d time.Duration, _ error) {
		return d, b.store(&tables.Options{Sync: true}, func(s *tables.Store) error {
			start := time.Now()
			if err := b.times(b.streamRows/size, func(int) error { return b.put(s, "hits", batch) }); err != nil {
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
				err = fmt.Errorf("%d rows are there of %d", info.Rows, b.streamRows)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	ours := float64(b.streamRows) / took.Seconds()
	fmt.Printf("stream of %d rows in batches of %d, %d columns, each synced: %.0f rows/s, counted in %v\n", b.streamRows, size, batch.NumCols(), ours, sql)
	job := fmt.Sprintf("append %d rows of %d columns, synced", size, batch.NumCols())
	if err := b.figure(job, "tables", size/ours, b.rounds); err != nil {
		return err
	}
	if err := writeParquet(filepath.Join(b.dir, "rows.parquet"), batch); err != nil {
		return err
	}
	for _, peer := range []string{"duckdb", "ducklake", "quack", "pyiceberg"} {
		seconds, err := b.peer(peer, "stream")
		if err != nil {
			return err
		}
		for name, of := range seconds {
			fmt.Printf("  %s: %.0f rows/s: ours is %.0f × as fast\n", name, size/of, ours/(size/of))
			if err := b.figure(job, name, of, b.rounds); err != nil {
				return err
			}
		}
	}
	return nil
}
