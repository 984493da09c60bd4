// Command cold measures whole jobs under a memory limit: a job appends entries to a new store,
// flushes it, then reads and checks every value. The limit applies to the process and to its page
// cache, so a store larger than the limit is written to the disk and read from it. It needs root
// and a memory cgroup (version 1 or 2).
//
//	go run -C bench ./cold --gb 2,8,20 --limit 512MiB
//
// Each job is a separate process. Python's partd and DuckDB generate their own entries, and check
// only lengths.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/logstore"
)

type flags struct {
	gigabytes     string
	limit, memory program.Size
	keys          uint64
	dists, stores string
	dir, child    string
	duckdb        string
	rounds        int
}

// result describes one job.
type result struct {
	AppendSec  float64 // time to generate, append and flush all entries
	ReadSec    float64 // time to read and check all values
	CPUSec     float64
	Written    int64   // bytes written to the disk
	P99Micros  float64 // 99th percentile of the append latency
	InputBytes int64   // total size of the values
}

func (r result) total() float64 { return r.AppendSec + r.ReadSec }

const (
	valueLen, batchLen = 100, 1000
	goStores           = "hashfiles-streamed,logstore,pebble-best"
)

func main() {
	f := flags{limit: 512 << 20}
	flag.StringVar(&f.gigabytes, "gb", "2,8,20", "total sizes of the values in `GB`, separated by commas")
	flag.Var(&f.limit, "limit", "memory limit of each job as a `size`, including its page cache")
	flag.Var(&f.memory, "memory", "memory `size` of the logstore; 0 means a quarter of the limit")
	flag.Uint64Var(&f.keys, "keys", 1_000_000, "number of distinct `keys`")
	flag.StringVar(&f.dists, "dists", "uniform,zipf", "key distributions: "+appendload.Dists)
	flag.StringVar(&f.stores, "stores", goStores+","+strings.Join(peerNames, ","), "the `stores` to run; ratios compare the others with the first")
	flag.StringVar(&f.dir, "dir", os.TempDir(), "`directory` for the stores")
	flag.StringVar(&f.duckdb, "duckdb", program.PeerPython("engines"), "`Python` interpreter with DuckDB")
	flag.IntVar(&f.rounds, "rounds", 1, "number of `rounds`; medians are reported")
	flag.StringVar(&f.child, "child", "", "run only this `store` and print JSON (used internally)")
	program.ParseFlags()
	if f.memory == 0 {
		f.memory = max(f.limit/4, logstore.MinMemory)
	}
	if f.child != "" {
		program.ExitOnError(f.runChild())
		return
	}
	program.ExitOnError(f.compare())
}

func (f *flags) compare() error {
	for size := range strings.SplitSeq(f.gigabytes, ",") {
		for dist := range strings.SplitSeq(f.dists, ",") {
			gb, err := strconv.ParseFloat(size, 64)
			if err != nil || f.rounds < 1 {
				return fmt.Errorf("--gb %s --rounds %d: use positive numbers", size, f.rounds)
			}
			fmt.Printf("%s GB in values of %d bytes, %d keys (%s), limit %s, logstore memory %s\n", size, valueLen, f.keys, dist, f.limit.String(), f.memory.String())
			if err := f.compareJobs(gb, dist); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareJobs prints a table with one line for each store.
func (f *flags) compareJobs(gb float64, dist string) error {
	names := strings.Split(f.stores, ",")
	results, reasons := map[string][]result{}, map[string]string{}
	for range f.rounds {
		for _, name := range names {
			if reasons[name] != "" {
				continue
			}
			r, skipped, err := f.runInChild(name, gb, dist)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			reasons[name] = skipped
			if skipped == "" {
				results[name] = append(results[name], r)
			}
		}
	}
	fmt.Printf("%-19s %9s %9s %9s %6s %9s %10s %9s\n", "", "append s", "read s", "total s", "ratio", "CPU s/GB", "written ÷", "p99 µs")
	perByte := func(r result) float64 { return r.total() / float64(r.InputBytes) }
	for _, name := range names {
		if reasons[name] != "" {
			fmt.Printf("%-19s %s\n", name, reasons[name])
			continue
		}
		med := func(value func(r result) float64) float64 { return program.MedianOf(results[name], value) }
		input := med(func(r result) float64 { return float64(r.InputBytes) })
		label := name
		if input < gb*1e9*0.99 {
			label = fmt.Sprintf("%s, %.2f GB", name, input/1e9)
		}
		ratio := "-"
		if base := results[names[0]]; len(base) > 0 {
			ratio = fmt.Sprintf("%.2f", program.MedianOf(base, perByte)/med(perByte))
		}
		fmt.Printf("%-19s %9.1f %9.1f %9.1f %6s %9.2f %10.2f %9.0f\n", label,
			med(func(r result) float64 { return r.AppendSec }), med(func(r result) float64 { return r.ReadSec }), med(result.total),
			ratio, med(func(r result) float64 { return r.CPUSec })/input*1e9,
			med(func(r result) float64 { return float64(r.Written) })/input, med(func(r result) float64 { return r.P99Micros }))
	}
	return nil
}

// runInChild runs one job in a child process. If there is no result, skipped says why.
func (f *flags) runInChild(name string, gb float64, dist string) (r result, skipped string, err error) {
	cmd := program.Self("--child", name, "--gb", fmt.Sprint(gb), "--dists", dist, "--dir", f.dir, "--duckdb", f.duckdb,
		"--keys", fmt.Sprint(f.keys), "--limit", fmt.Sprint(int64(f.limit)), "--memory", fmt.Sprint(int64(f.memory)))
	dir, err := os.MkdirTemp(f.dir, "partd-bench-cold-")
	if err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd.Dir = dir
	defer appendload.RemoveLimit(appendload.LimitName(name))
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		status, _ := e.Sys().(syscall.WaitStatus)
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGKILL:
			return r, "killed: out of memory", nil
		case e.ExitCode() == exitSkipped:
			return r, strings.TrimSpace(string(out)), nil
		}
	}
	if err != nil {
		return r, "", err
	}
	return r, "", json.Unmarshal(out, &r)
}

const exitSkipped = 3 // exit code of a child that printed why it was skipped

// runChild runs a job in the current directory.
func (f *flags) runChild() error {
	if err := appendload.LimitMemory(appendload.LimitName(f.child), f.limit); err != nil {
		exitWithoutResult("skipped: %v", err)
	}
	gb, err := strconv.ParseFloat(f.gigabytes, 64)
	if err != nil {
		return err
	}
	entries := uint64(gb * 1e9 / valueLen)
	if slices.Contains(peerNames, f.child) {
		return f.runPeer(entries)
	}
	l, err := appendload.NewLoad(f.keys, entries, valueLen, batchLen, f.dists)
	if err != nil {
		return err
	}
	r, err := measure(f.child, l, &logstore.Options{Memory: int64(f.memory)})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// measure runs a job with a Go store in the current directory.
func measure(name string, l *appendload.Load, o *logstore.Options) (r result, err error) {
	r.InputBytes = int64(l.Entries) * int64(l.Value)
	start := time.Now()
	t, err := appendload.Open(name, ".", o)
	if err != nil {
		return r, err
	}
	w, err := l.Write(t)
	if err != nil {
		return r, err
	}
	r.AppendSec, r.P99Micros = time.Since(start).Seconds(), float64(w.P99.Microseconds())
	start = time.Now()
	if err := errors.Join(l.Check(t), t.Close()); err != nil {
		return r, err
	}
	r.ReadSec, r.CPUSec, r.Written = time.Since(start).Seconds(), program.CPU().Seconds(), program.BytesWritten()
	return r, nil
}
