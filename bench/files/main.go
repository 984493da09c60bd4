// Command files compares partd's commands on files with GNU sort, awk, Miller, DuckDB, polars,
// DataFusion and Python's partd. The programs take turns on the same input, and their outputs are
// compared. Run it from the root of the repository:
//
//	go run -C bench ./files                                    # all jobs, more than an hour
//	go run -C bench ./files --jobs sort,sum --keys 1000 --rounds 3
//	go run -C bench ./files --file list.txt --by=-1 --jobs sort
//	go run -C bench ./files --jobs questions
//
// The jobs are: shuffle into a store; split into one file per key; sort by key; sum and
// count per key; group all values of each key; and the ten groupings and five joins of the
// db-benchmark. docs/dev/benchmarks.md describes the measurements and how to install the peers.
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

type flags struct {
	bytes, memory, duckdbMemory program.Size
	keys, dist                  string
	seed                        uint64

	file, format, by, values, sum string

	jobs, peers string
	rounds      int
	threads     int
	slow        time.Duration
	timeout     time.Duration
	pause       time.Duration
	checkAll    bool
	require     bool

	rows, groups   int64
	missingPercent int
	sortedInput    bool
	alsoIn         string

	figures string
	trace   bool

	dir, partd, python, polars, duckdb, datafusion string
}

// defaults returns flags with those default values that main does not pass to package flag as literals.
func defaults() flags {
	return flags{
		bytes: 600_000_000, memory: 256 << 20, duckdbMemory: 512_000_000, keys: "1000,100000,1000000", threads: 2,
		duckdb: program.PeerPython("engines"), polars: program.PeerPython("engines"), datafusion: program.PeerPython("datafusion"),
	}
}

func main() {
	f := defaults()
	flag.Var(&f.bytes, "bytes", "`size` of the generated input, such as 600MB or 1GiB")
	flag.StringVar(&f.keys, "keys", f.keys, "`numbers` of distinct keys; each number gets a table")
	flag.StringVar(&f.dist, "dist", "uniform", "distribution of keys: uniform, zipf, or half (one key in half of the rows)")
	flag.Uint64Var(&f.seed, "seed", 1, "`seed` of the generated input")
	flag.StringVar(&f.file, "file", "", "use this `file` as input; CSV must not contain quotes")
	flag.StringVar(&f.format, "format", "", "format of --file: csv or text (default: by the file's extension)")
	flag.StringVar(&f.by, "by", "", "key `field` of --file: a name, a number, or -1 for the last field of text")
	flag.StringVar(&f.values, "values", "1", "the `field` of --file that job values collects")
	flag.StringVar(&f.sum, "sum", "", "the `field` to add up (default: v1 of generated input; with --file, only count)")
	flag.Int64Var(&f.rows, "rows", 10_000_000, "`rows` of table x in questions, about 50 bytes each")
	flag.Int64Var(&f.groups, "groups", 100, "`number` of distinct values of id1 and id2 in groupings; id3 and id6 have --rows divided by this number")
	flag.IntVar(&f.missingPercent, "missing", 0, "`percent` of missing values in the tables of questions")
	flag.BoolVar(&f.sortedInput, "sorted", false, "sort the tables of questions")
	flag.StringVar(&f.alsoIn, "also", "", "additional memory `sizes` to measure partd with in questions, such as 256MiB,4GiB")
	flag.StringVar(&f.jobs, "jobs", "shuffle,split,sort,sum,values", "names of `jobs`, separated by commas; not in the default: q1 to q10, j1 to j5, groupings (q1 to q10), joins (j1 to j5), and questions (both)")
	flag.StringVar(&f.peers, "peers", "all", "the `peers` to run: "+strings.Join(peerNames(), ", ")+", or none")
	flag.IntVar(&f.rounds, "rounds", 5, "number of `rounds`")
	flag.Var(&f.memory, "memory", "memory `size` of partd and GNU sort")
	flag.IntVar(&f.threads, "threads", f.threads, "number of `threads` of each program that has an option for it")
	flag.Var(&f.duckdbMemory, "duckdb-memory", "memory limit of DuckDB and DataFusion as a `size`")
	flag.DurationVar(&f.slow, "slow", 20*time.Second, "if a run of a peer takes longer, do not run the peer again")
	flag.DurationVar(&f.timeout, "timeout", 2*time.Minute, "kill a run that takes longer")
	flag.DurationVar(&f.pause, "pause", time.Second, "pause after removing an output, plus the same for every 10,000 files in it")
	flag.BoolVar(&f.checkAll, "check-all", false, "check the output of every round, not only the first")
	flag.BoolVar(&f.require, "require", false, "fail if a peer is not installed")
	flag.StringVar(&f.figures, "figures", "", "add the medians to this `file`, in the format of docs/plots/draw")
	flag.BoolVar(&f.trace, "trace", false, "with --figures: also add the memory use over time of the run with the median duration")
	flag.StringVar(&f.dir, "dir", filepath.Join(os.TempDir(), "bench-files"), "`directory` for inputs and outputs; outputs and tables of questions are removed, other inputs are kept")
	flag.StringVar(&f.partd, "partd", "", "partd program to measure (default: built from this tree)")
	flag.StringVar(&f.python, "python", "/usr/bin/python3", "Python interpreter with partd")
	flag.StringVar(&f.polars, "polars", f.polars, "Python interpreter with polars")
	flag.StringVar(&f.duckdb, "duckdb", f.duckdb, "Python interpreter with DuckDB")
	flag.StringVar(&f.datafusion, "datafusion", f.datafusion, "Python interpreter with DataFusion")
	program.ParseFlags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program.ExitOnError(f.run(ctx))
}

func (f *flags) run(ctx context.Context) error {
	if runtime.GOOS != "linux" {
		return errors.New("this program needs Linux: it measures memory with /proc")
	}
	if f.rounds < 1 || f.threads < 1 {
		return errors.New("--rounds and --threads must be at least 1")
	}
	jobs, err := selectedJobs(f.jobs)
	if err != nil {
		return err
	}
	peers, err := f.selectedPeers()
	if err != nil {
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
	var questions []job
	jobs = slices.DeleteFunc(jobs, func(j job) bool {
		if j.question != nil {
			questions = append(questions, j)
		}
		return j.question != nil
	})
	inputs, err := f.inputs()
	if err != nil {
		return err
	}
	wrongErr := f.measureQuestions(ctx, questions, peers)
	if len(jobs) == 0 {
		return wrongErr
	}
	for _, src := range inputs {
		if err := f.prepare(src); err != nil {
			return err
		}
		for _, j := range jobs {
			rs, err := f.measure(ctx, src, j, peers)
			if err != nil {
				return err
			}
			wrongErr = errors.Join(wrongErr, f.writeTable(os.Stdout, src, j, rs), f.writeFigures(src, j, rs), wrongOutputs(src, j, rs))
		}
	}
	return wrongErr
}
