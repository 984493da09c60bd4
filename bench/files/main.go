// Command files measures partd's commands on files beside GNU sort, awk, Miller,
// DuckDB and Python's partd, on the same input, in turns, and compares what they
// wrote. It is run from the root of the repository:
//
//	go run ./bench/files                                    # everything, long
//	go run ./bench/files --jobs sort,sum --keys 1000 --rounds 3
//	go run ./bench/files --file list.txt --by=-1 --jobs sort
//	go run ./bench/files --scaling --keys 100000
//
// The jobs: shuffle into a store; split into one file per key; sort by key; sum
// and count per key; all values of each key together. docs/benchmarks.md says
// what is measured, and how the peers are installed and run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type flags struct {
	bytes, memory size
	keys          numbers
	dist          string
	seed          uint64

	file, format, by, values, sum string

	jobs, peers string
	rounds      int
	threads     int
	scaling     bool
	slow        time.Duration
	timeout     time.Duration
	pause       time.Duration
	checkAll    bool
	require     bool
	json        bool

	dir, partd, python, duckdb, duckdbMemory string
}

func main() {
	f := flags{bytes: 600_000_000, memory: 256 << 20, keys: numbers{1000, 100_000, 1_000_000}}
	flag.Var(&f.bytes, "bytes", "`size` of the generated input, as 600MB or 1GiB")
	flag.Var(&f.keys, "keys", "how many different keys, a table for each of the `numbers`")
	flag.StringVar(&f.dist, "dist", "uniform", "how often keys occur: uniform, zipf, or half (one key in half of the rows)")
	flag.Uint64Var(&f.seed, "seed", 1, "`seed` of the generated input")
	flag.StringVar(&f.file, "file", "", "measure with this `file` instead; csv must have no quotes")
	flag.StringVar(&f.format, "format", "", "format of --file: csv or text (without it, by its name)")
	flag.StringVar(&f.by, "by", "", "the `field` of --file that is the key: a name or a number, in text also -1")
	flag.StringVar(&f.values, "values", "1", "the `field` of --file that job values brings together")
	flag.StringVar(&f.sum, "sum", "", "the `field` to add up: v1 of generated input, none of --file (counts only)")
	flag.StringVar(&f.jobs, "jobs", strings.Join(jobNames(), ","), "the `jobs` to measure")
	flag.StringVar(&f.peers, "peers", "all", "the `peers` to run: "+strings.Join(peerNames(), ", ")+", or none")
	flag.IntVar(&f.rounds, "rounds", 5, "number of `rounds`")
	flag.Var(&f.memory, "memory", "memory of partd and of GNU sort, as `size`")
	flag.IntVar(&f.threads, "threads", 2, "`threads` of partd, GNU sort and DuckDB")
	flag.StringVar(&f.duckdbMemory, "duckdb-memory", "512MB", "memory_limit of DuckDB")
	flag.BoolVar(&f.scaling, "scaling", false, "partd alone, on inputs of 1/4, 1, 4 and 16 times --memory")
	flag.DurationVar(&f.slow, "slow", 20*time.Second, "run a peer that takes longer once only")
	flag.DurationVar(&f.timeout, "timeout", 2*time.Minute, "end a run that takes longer")
	flag.DurationVar(&f.pause, "pause", time.Second, "wait after files were removed, and as long again for each 10,000 of them")
	flag.BoolVar(&f.checkAll, "check-all", false, "check the output of every round, not of the first alone")
	flag.BoolVar(&f.require, "require", false, "fail if a peer is not installed")
	flag.BoolVar(&f.json, "json", false, "print each run and each median as a line of JSON instead of tables")
	flag.StringVar(&f.dir, "dir", filepath.Join(os.TempDir(), "bench-files"), "`directory` for inputs, which are kept, and outputs, which are removed")
	flag.StringVar(&f.partd, "partd", "", "the partd to measure (without it, one built from this tree)")
	flag.StringVar(&f.python, "python", "/usr/bin/python3", "a Python that has partd")
	flag.StringVar(&f.duckdb, "duckdb", filepath.Join("bench", "files", "duckdb"), "`directory` with run.mjs, where install.sh was run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f.run(ctx); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "files:", err)
		os.Exit(1)
	}
}

func (f *flags) run(ctx context.Context) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if runtime.GOOS != "linux" {
		return errors.New("this measures memory as Linux tells it, in /proc")
	}
	if f.rounds < 1 || f.threads < 1 {
		return errors.New("--rounds and --threads are 1 or more")
	}
	jobs, err := chosenJobs(f.jobs)
	if err != nil {
		return err
	}
	peers, err := f.chosenPeers()
	if err != nil {
		return err
	}
	if f.duckdb, err = filepath.Abs(f.duckdb); err != nil {
		return err
	}
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return err
	}
	if f.dir, err = filepath.Abs(f.dir); err != nil {
		return err
	}
	if f.partd == "" {
		if f.partd, err = buildPartd(ctx, f.dir); err != nil {
			return err
		}
	}
	if f.scaling {
		return f.scale(ctx, jobs)
	}
	inputs := f.inputs()
	var bad error
	for _, in := range inputs {
		if err := f.prepare(in); err != nil {
			return err
		}
		for _, j := range jobs {
			rs, err := f.measure(ctx, in, j, peers)
			if err != nil {
				return err
			}
			if f.json {
				err = writeMedians(os.Stdout, in, j, rs)
			} else {
				err = f.writeTable(os.Stdout, in, j, rs)
			}
			bad = errors.Join(bad, err, wrong(in, j, rs))
		}
	}
	return bad
}
