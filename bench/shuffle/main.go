// Command shuffle compares package shuffle with simple Go code that holds all records in
// memory. It also measures the time and memory of package shuffle for inputs of a quarter, 1,
// 4 and 16 times the memory limit.
//
//	go run ./bench/shuffle
//
// Each run is a separate process. The compared programs take turns, and the ratio compares
// their median times. VmHWM is the peak memory of a process.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

type flags struct {
	op, impl string
	records  int
	memory   int64
	temp     string
}

type result struct {
	Seconds float64 // time from the first input record to the last output record
	CPU     float64 // CPU seconds of the process
	HWM     int64   // peak memory of the process (VmHWM), in bytes
}

func main() {
	var f flags
	single := flag.Bool("one", false, "make one run and print its result (used internally)")
	rounds := flag.Int("rounds", 5, "runs of each test; the median is reported")
	scale := flag.Bool("scale", true, "also measure inputs of several sizes")
	flag.StringVar(&f.op, "op", "sort,group,aggregate,distinct", "operations, separated by commas")
	flag.StringVar(&f.impl, "impl", "partd", "implementation: partd, or memory (plain Go code that holds everything in memory)")
	flag.IntVar(&f.records, "records", 10_000_000, "number of records, each of which has a uint64 key and a uint64 value")
	flag.Int64Var(&f.memory, "memory", 1<<30, "memory limit of partd, in bytes")
	flag.StringVar(&f.temp, "temp", "", "directory for temporary data")
	flag.Parse()
	var err error
	switch {
	case *single:
		err = printOne(f)
	default:
		if err = compare(f, *rounds); err == nil && *scale {
			err = compareSizes(f, *rounds)
		}
	}
	program.ExitOnError(err)
}

func printOne(f flags) error {
	var r result
	start := time.Now()
	err := runOne(f)
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		return err
	}
	r.CPU, r.HWM = program.CPU().Seconds(), program.Peak(os.Getpid())
	return json.NewEncoder(os.Stdout).Encode(r)
}

func runChild(f flags) (r result, err error) {
	cmd := program.Self("-one", "-op", f.op, "-impl", f.impl, "-temp", f.temp,
		"-records", fmt.Sprint(f.records), "-memory", fmt.Sprint(f.memory))
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%v: %w", cmd.Args, err)
	}
	return r, json.Unmarshal(out, &r)
}

// runInTurn runs each variant once per round. For each variant, it returns the run with the
// median time; its HWM is replaced by the maximum of all runs.
func runInTurn(rounds int, variants ...flags) ([]result, error) {
	results := make([][]result, len(variants))
	for range rounds {
		for i, variant := range variants {
			r, err := runChild(variant)
			if err != nil {
				return nil, err
			}
			results[i] = append(results[i], r)
		}
	}
	medians := make([]result, len(variants))
	for i, list := range results {
		slices.SortFunc(list, func(a, b result) int { return int(1e6 * (a.Seconds - b.Seconds)) })
		medians[i] = list[len(list)/2]
		for _, r := range list {
			medians[i].HWM = max(medians[i].HWM, r.HWM)
		}
	}
	return medians, nil
}

func compare(f flags, rounds int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d records of 16 bytes\tin memory: M records/s\tpeak MiB\tpartd, limit %d MiB: M records/s\tpeak MiB\tspeed ratio\t\n", f.records, f.memory>>20)
	for op := range strings.SplitSeq(f.op, ",") {
		ours, theirs := f, f
		ours.op, ours.impl = op, "partd"
		theirs.op, theirs.impl = op, "memory"
		m, err := runInTurn(rounds, theirs, ours)
		if err != nil {
			return err
		}
		rate := func(r result) float64 { return float64(f.records) / 1e6 / r.Seconds }
		fmt.Fprintf(w, "%s\t%.2f\t%d\t%.2f\t%d\t%.2f\t\n", op, rate(m[0]), m[0].HWM>>20, rate(m[1]), m[1].HWM>>20, m[0].Seconds/m[1].Seconds)
	}
	return w.Flush()
}

const recordBytes = 16

// compareSizes measures each operation on inputs of several sizes, with a memory limit of 64 MiB.
func compareSizes(f flags, rounds int) error {
	f.memory, f.impl = 64<<20, "partd"
	allowedPeak := f.memory + f.memory/10 + 30<<20
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nCPU (elapsed) ns per record, memory limit %d MiB\tinput 1/4 x the limit\t1 x\t4 x\t16 x\tmax VmHWM\tallowed VmHWM\t\n", f.memory>>20)
	for op := range strings.SplitSeq(f.op, ",") {
		variants := make([]flags, 4)
		for i := range variants {
			variants[i] = f
			variants[i].op = op
			variants[i].records = int(f.memory/recordBytes/4) << (2 * i)
		}
		m, err := runInTurn(rounds, variants...)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t", op)
		maxPeak := int64(0)
		for i, r := range m {
			fmt.Fprintf(w, "%.0f (%.0f)\t", 1e9*r.CPU/float64(variants[i].records), 1e9*r.Seconds/float64(variants[i].records))
			maxPeak = max(maxPeak, r.HWM)
		}
		fmt.Fprintf(w, "%d MiB\t%d MiB\t\n", maxPeak>>20, allowedPeak>>20)
	}
	return w.Flush()
}
