//go:build cgo && unix

// Command bench compares tables with pyiceberg, plain pyarrow, DuckDB, DuckLake, Quack, pandas,
// pystore and ArcticDB, on the same data in one run. It prints the medians of --rounds runs.
// Ratios are more meaningful than times.
//
//	cd tables && go run ./bench
//	cd tables && go run ./bench --only bulk,resample,series --rows 10000000 --series-rows 10000000
//	cd tables && go run ./bench --only hits --hits-rows 10000000 --figures hits.jsonl
//	cd tables && go run ./bench --only stream --stream-rows 300000
//	cd tables && go run ./bench --only upsert --upsert-rows 1000000 --rounds 1
//	cd tables && go run ./bench --only tpc
//	cd tables && go run ./bench --only statements,fetch --fetch-rows 60000000 --rounds 3
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// bench holds what all benchmarks share: the options, stores, Python peers and the report.
type bench struct {
	ctx     context.Context
	dir     string
	rounds  int
	rows    int
	figures string

	ours      map[string]float64 // our seconds for each reported job
	reportErr error              // error of writing to figures
}

func main() {
	duck.RunWorker()
	b := &bench{ctx: context.Background(), ours: map[string]float64{}}
	appends, upsert, sql, flight := appendsBench{bench: b}, upsertBench{bench: b}, sqlBench{b}, flightBench{b}
	series, writers, statements := seriesBench{bench: b}, writersBench{b}, statementsBench{bench: b}
	hits, tpc := hitsBench{bench: b}, tpcBench{bench: b}
	benchmarks := map[string]func() error{
		"one": appends.measureOne, "many": appends.measureMany, "growing": appends.measureGrowing,
		"bulk": appends.measureBulk, "upsert": upsert.measureUpsert, "stream": appends.measureStream,
		"sql": sql.measureSQL, "deletes": sql.measureDeletes, "resample": series.measureResample, "flight": flight.measureFlight,
		"series": series.measureSeries, "writers": writers.measureWriters, "clients": writers.measureClients,
		"statements": statements.measureStatements, "fetch": statements.measureFetch,
		"hits": hits.measureHits, "tpc": tpc.measureTPC,
	}
	only := flag.String("only", "one,many,growing,bulk,upsert,deletes,stream,sql,resample,flight,series,writers,clients,statements,fetch,hits,tpc",
		"benchmarks to run, separated by commas")
	flag.IntVar(&b.rounds, "rounds", 5, "runs of each test; the median is reported")
	flag.IntVar(&b.rows, "rows", 1_000_000, "rows of the bulk append, the scan, the resampling and the updated table")
	flag.IntVar(&appends.streamRows, "stream-rows", 50_000, "rows of the streaming benchmark, in batches of 10")
	flag.IntVar(&series.seriesRows, "series-rows", 1_000_000, "rows of the time series before the measured appends")
	flag.IntVar(&hits.hitsRows, "hits-rows", 1_000_000, "rows of the table hits, for queries like ClickBench's")
	flag.IntVar(&upsert.upsertRows, "upsert-rows", 100_000, "rows to upsert into ten times as many")
	flag.IntVar(&statements.fetchRows, "fetch-rows", 10_000_000, "rows to fetch by SQL")
	flag.Float64Var(&tpc.tpcScale, "tpc-scale", 0.05, "scale factor of TPC-H and TPC-DS")
	flag.StringVar(&b.figures, "figures", "", "add the medians to this `file`, in the format of docs/plots/draw")
	flag.Parse()
	if err := b.run(*only, benchmarks); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (b *bench) run(names string, benchmarks map[string]func() error) (err error) {
	if b.dir, err = os.MkdirTemp("", "tables-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	for name := range strings.SplitSeq(names, ",") {
		run, ok := benchmarks[name]
		if !ok {
			return fmt.Errorf("unknown benchmark %q: --help lists all benchmarks", name)
		}
		if err := errors.Join(run(), b.reportErr); err != nil {
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

// withSQL is like withStore, but gives the store an SQL engine.
func (b *bench) withSQL(engineOptions *duck.Options, o tables.Options, f func(*tables.Store) error) (err error) {
	engine, err := duck.New(engineOptions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	o.Engine = engine
	return b.withStore(&o, f)
}

// seconds calls f and returns how long it took.
func seconds(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

// inTurns calls all functions in each round, because the machine's speed varies. In each round, it pauses
// after the first function. It returns the median time of each function in seconds.
func inTurns(rounds int, pause time.Duration, functions ...func() error) ([]float64, error) {
	medians := make([]float64, len(functions))
	times := make([][]float64, len(functions))
	for range rounds {
		for i, f := range functions {
			elapsed, err := seconds(f)
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], elapsed)
			if i == 0 {
				time.Sleep(pause)
			}
		}
	}
	for i := range medians {
		medians[i] = benchdata.Median(times[i])
	}
	return medians, nil
}

// median calls f in each round and returns its median time in seconds.
func (b *bench) median(f func() error) (float64, error) {
	medians, err := inTurns(b.rounds, 0, f)
	if err != nil {
		return 0, err
	}
	return medians[0], nil
}

// medianInStore calls f with a new store in each round and returns the median of the results.
func (b *bench) medianInStore(o *tables.Options, f func(*tables.Store) (float64, error)) (float64, error) {
	results := make([]float64, b.rounds)
	for i := range results {
		err := b.withStore(o, func(s *tables.Store) (err error) {
			results[i], err = f(s)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return benchdata.Median(results), nil
}

func repeat(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// report prints a contender's median time for a job and writes it to the file of --figures. If our own time
// (contender "tables") was reported earlier, report also prints the ratio to it, and likewise the ratio to our time
// with syncs.
func (b *bench) report(job, contender string, seconds float64, runs int) {
	fmt.Printf("%s: %s %.4g ms", job, contender, 1000*seconds)
	if suffix, ok := strings.CutPrefix(contender, "tables"); ok {
		b.ours[job+suffix] = seconds
	} else if ours, ok := b.ours[job]; ok {
		fmt.Printf(": ours is %.2f × as fast", seconds/ours)
		if synced, ok := b.ours[job+", synced"]; ok {
			fmt.Printf(", synced %.2f ×", seconds/synced)
		}
	}
	fmt.Println()
	b.writeFigure(benchdata.Figure{Job: job, Contender: contender, Value: 1000 * seconds, Unit: "ms", Runs: runs})
}

func (b *bench) writeFigure(f benchdata.Figure) {
	f.Bench = "tables"
	if b.reportErr == nil {
		b.reportErr = benchdata.AppendFigures(b.figures, f)
	}
}

// reportPeers runs peers.py for each peer and reports the times that it prints. describe returns the job and the
// contender for a time with the given name.
func (b *bench) reportPeers(work string, peers []string, describe func(peer, name string) (job, contender string), args ...string) error {
	for _, peer := range peers {
		times, err := b.runPeer(peer, append([]string{work}, args...)...)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(times)) {
			job, contender := describe(peer, name)
			b.report(job, contender, times[name], b.rounds)
		}
	}
	return nil
}

// runPeer runs peers.py in a peer's Python environment and returns the seconds that each operation took, by name.
func (b *bench) runPeer(peer string, args ...string) (map[string]float64, error) {
	var times map[string]float64
	err := b.runPython("peers.py", peer, &times, append([]string{peer}, args...)...)
	return times, err
}

// runPython runs a script in a peer's Python environment. The script's first arguments are the subcommand, the
// directory and the number of rounds. runPython decodes the script's output into result, unless result is nil.
func (b *bench) runPython(script, peer string, result any, args ...string) error {
	python, err := procs.PythonPath(peer)
	if err != nil {
		return err
	}
	if script, err = filepath.Abs(filepath.Join("bench", script)); err != nil {
		return err
	}
	cmd := exec.CommandContext(b.ctx, python, slices.Insert(append([]string{script}, args...), 2, b.dir, fmt.Sprint(b.rounds))...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%v: %w", cmd, err)
	} else if result != nil {
		err = json.Unmarshal(out, result)
	}
	return err
}

func (b *bench) put(s *tables.Store, name string, o *tables.PutOptions, batches ...arrow.RecordBatch) error {
	r, err := array.NewRecordReader(batches[0].Schema(), batches)
	if err != nil {
		return err
	}
	defer r.Release()
	_, err = s.Bucket("b").Table(name).Put(b.ctx, r, tables.PutAppend, o)
	return err
}

func (b *bench) withParquet(path string, f func(array.RecordReader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // the file was only read
	r, err := (&formats.Input{Name: path, File: file, Format: formats.Parquet()}).Read(b.ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	return f(r)
}

// writeRows writes a batch to the file that peers read.
func (b *bench) writeRows(batch arrow.RecordBatch) error { return b.writeParquet("rows", batch) }

func (b *bench) writeParquet(name string, batch arrow.RecordBatch) error {
	f, err := os.Create(filepath.Join(b.dir, name+".parquet"))
	if err != nil {
		return err
	}
	w, err := formats.Parquet().Write(f, batch.Schema(), formats.WriteOptions{})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(w.Write(batch), w.Close(), f.Close())
}
