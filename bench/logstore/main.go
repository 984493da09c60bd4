// Command logstore compares package logstore with other stores: 256 hash files, with and without a
// minimal write-ahead log; and Pebble with the fastest known settings:
//
//	go run -C bench ./logstore --keys 1000000 --bytes 3GiB
//
// The stores take turns, and the ratios are medians over the rounds. Each run checks all values
// after its timed part, and is a separate process, except with --scan.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/logstore"
)

type flags struct {
	keys                 uint64
	bytes, memory        program.Size
	value, batch, rounds int
	dist, stores, dir    string
	scan                 bool
	child                string
	figures              string
}

func main() {
	f := flags{bytes: 1 << 30, memory: 256 << 20}
	flag.Uint64Var(&f.keys, "keys", 1_000_000, "number of distinct `keys`, up to 33 million")
	flag.Var(&f.bytes, "bytes", "total `size` of the values, in bytes, KiB, MiB or GiB")
	flag.Var(&f.memory, "memory", "memory `size` of the logstore")
	flag.IntVar(&f.value, "value", 100, "length of a value in `bytes`")
	flag.IntVar(&f.batch, "batch", 1000, "`entries` per append")
	flag.IntVar(&f.rounds, "rounds", 5, "number of `rounds`")
	flag.StringVar(&f.dist, "dist", "uniform", "key distribution: "+appendload.Dists)
	flag.StringVar(&f.stores, "stores", strings.Join(appendload.Names, ","), "the `stores` to run; ratios compare the others with the first")
	flag.StringVar(&f.dir, "dir", os.TempDir(), "`directory` for the stores")
	flag.BoolVar(&f.scan, "scan", false, "compare only reads, in one process and with several numbers of keys: Scan with one core and two, Scan by parts, and a minimal reader of hash files")
	flag.StringVar(&f.figures, "figures", "", "add the medians to this `file`, in the format of docs/plots/draw")
	flag.StringVar(&f.child, "child", "", "run only this `store` in this process and print JSON (used internally)")
	program.ParseFlags()
	program.ExitOnError(f.run())
}

func (f *flags) run() error {
	if f.rounds < 1 || f.keys > 33_000_000 {
		return fmt.Errorf("--rounds must be at least 1, and --keys at most 33 million")
	}
	l, err := appendload.NewLoad(f.keys, uint64(f.bytes)/uint64(max(f.value, 1)), f.value, f.batch, f.dist)
	if err != nil {
		return err
	}
	if f.scan {
		return f.compareScans()
	}
	if f.child != "" {
		return f.runChild(l)
	}
	names := strings.Split(f.stores, ",")
	for _, n := range names {
		if !slices.Contains(appendload.Names, n) {
			return fmt.Errorf("unknown store %q: use %s", n, strings.Join(appendload.Names, ", "))
		}
	}
	fmt.Printf("%d entries of %d bytes, %d keys (%s), batches of %d, logstore memory %s\n",
		l.Entries, f.value, f.keys, f.dist, f.batch, f.memory.String())
	var runs []func() (result, error)
	for _, name := range names {
		runs = append(runs, func() (result, error) { return f.runInChild(name) })
	}
	results, err := program.InTurns(f.rounds, runs...)
	if err != nil {
		return err
	}
	f.report(l, names, results)
	return benchdata.AppendFigures(f.figures, f.medians(l, names, results)...)
}

func (f *flags) medians(l *appendload.Load, names []string, results [][]result) (all []benchdata.Figure) {
	for i, name := range names {
		var appended, read []float64
		var peak int64
		for _, r := range results[i] {
			megabytes := float64(l.Entries) * float64(f.value) / 1e6
			appended, read = append(appended, megabytes/r.AppendSec), append(read, megabytes/r.ScanSec)
			peak = max(peak, r.VmHWM)
		}
		figure := benchdata.Figure{Bench: "logstore", Job: "append", Contender: name, X: float64(f.keys), Unit: "MB/s", Peak: peak}.WithRuns(appended)
		all = append(all, figure)
		figure.Job = "read"
		all = append(all, figure.WithRuns(read))
	}
	return all
}

func (f *flags) runChild(l *appendload.Load) (err error) {
	dir, err := os.MkdirTemp(f.dir, "partd-bench-"+f.child+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r, err := measure(f.child, dir, l, &logstore.Options{Memory: int64(f.memory)})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func (f *flags) runInChild(name string) (r result, err error) {
	out, err := program.Self(append(slices.Clip(os.Args[1:]), "--child", name)...).Output()
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, json.Unmarshal(out, &r)
}

func (f *flags) report(l *appendload.Load, names []string, results [][]result) {
	total := float64(l.Entries) * float64(f.value)
	const head = "%-15s %8s %6s %8s %6s %8s %6s %9s %6s %8s %8s %8s %8s %8s %6s\n"
	fmt.Printf(head, "median", "append", "", "make +", "", "scan", "", "append +", "", "append", "append", "append", "scan", "written", "VmHWM")
	fmt.Printf(head, "", "M/s", "ratio", "append", "ratio", "MB/s", "ratio", "scan s/GB", "ratio", "p99 µs", "max ms", "CPU s/GB", "CPU s/GB", "÷ input", "MiB")
	base := results[0]
	for i, n := range names {
		rs := results[i]
		med := func(f func(r result) float64) float64 { return program.MedianOf(rs, f) }
		ratio := func(f func(r result) float64) float64 {
			i := -1
			return program.MedianOf(rs, func(r result) float64 { i++; return f(base[i]) / f(r) })
		}
		writeSec := func(r result) float64 { return r.WriteSec }
		appendSec := func(r result) float64 { return r.AppendSec }
		scanSec := func(r result) float64 { return r.ScanSec }
		jobSec := func(r result) float64 { return r.AppendSec + r.ScanSec }
		fmt.Printf("%-15s %8.2f %6.2f %8.2f %6.2f %8.0f %6.2f %9.2f %6.2f %8.0f %8.1f %8.2f %8.2f %8.2f %6.0f\n", n,
			float64(l.Entries)/1e6/med(appendSec), ratio(appendSec), float64(l.Entries)/1e6/med(writeSec), ratio(writeSec), total/1e6/med(scanSec), ratio(scanSec),
			med(jobSec)/total*1e9, ratio(jobSec),
			med(func(r result) float64 { return r.P99Micros }), med(func(r result) float64 { return r.MaxMillis }),
			med(func(r result) float64 { return r.CPUSec })/total*1e9, med(func(r result) float64 { return r.ScanCPUSec })/total*1e9,
			med(func(r result) float64 { return float64(r.WrittenBytes) })/total, med(func(r result) float64 { return float64(r.VmHWM) })/(1<<20))
	}
	fmt.Printf("M/s are million entries per second. A ratio is the store's speed divided by the speed of %s, the median of %d rounds.\n", names[0], f.rounds)
}
