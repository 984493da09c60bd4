// Command encode compares package encode with the classes Python and Pickle of Python's partd. It
// appends lists of numbers, strings and dicts to a Dict, and reads them back.
//
//	go run ./bench/encode
//
// The two programs of a row take turns, and each run is a separate process. The ratio compares
// their medians. Times are CPU times, because other load on the machine affects them less. They
// include Go's garbage collector, which runs on other cores.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/encode"
)

//go:embed peer.py
var peerPython string

const (
	keys   = 100 // keys in each batch
	length = 100 // elements in the list for each key
	rounds = 100 // number of batches
)

func main() {
	turns := flag.Int("rounds", 5, "runs of each test; the median is reported")
	filter := flag.String("only", "", "run only rows whose name contains this text")
	runName := flag.String("run", "", "make one run, as \"codec shape\", and print its seconds (used internally)")
	flag.Parse()
	var err error
	if *runName != "" {
		codec, shape, _ := strings.Cut(*runName, " ")
		err = runOne(codec, shape)
	} else {
		err = compare(*turns, *filter)
	}
	program.ExitOnError(err)
}

func runOne(codec, shape string) error {
	element, ok := map[string]func(int) any{
		"numbers": func(i int) any { return i * 7919 },
		"texts":   func(i int) any { return fmt.Sprintf("text number %08d", i) },
		"rows": func(i int) any {
			return encode.PyDict{
				{Key: "id", Value: i},
				{Key: "name", Value: fmt.Sprint("name ", i)},
				{Key: "score", Value: float64(i) / 8},
				{Key: "tags", Value: []any{"a", "b"}},
			}
		},
	}[shape]
	c, isKnownCodec := map[string]encode.ValueCodec[[]any]{"python": encode.Python(), "pickle": encode.Pickle()}[codec]
	if !ok || !isKnownCodec {
		return fmt.Errorf("run %q %q: use python or pickle, and numbers, texts or rows", codec, shape)
	}
	batches := make([][]encode.Entry[[]any], 4)
	for r := range batches {
		for k := range keys {
			list := make([]any, length)
			for i := range list {
				list[i] = element(r*length + i)
			}
			batches[r] = append(batches[r], encode.Entry[[]any]{Key: fmt.Sprint("key", k), Value: list})
		}
	}
	ctx := context.Background()
	store := encode.New(partd.NewDict(), c)
	start := program.CPU()
	for r := range rounds {
		if err := store.Append(ctx, batches[r%len(batches)]...); err != nil {
			return err
		}
	}
	appendEnd := program.CPU()
	elementCount := 0
	for k := range keys {
		lists, err := store.Get(ctx, fmt.Sprint("key", k))
		if err != nil {
			return err
		}
		elementCount += len(lists[0])
	}
	getEnd := program.CPU()
	if elementCount != keys*length*rounds {
		return fmt.Errorf("read %d elements, want %d", elementCount, keys*length*rounds)
	}
	fmt.Println((appendEnd - start).Seconds(), (getEnd - appendEnd).Seconds())
	return nil
}

func compare(turns int, filter string) error {
	if turns < 1 {
		return fmt.Errorf("-rounds %d: must be at least 1", turns)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "codec, elements\tappend, M/s\tPython\tratio\tget, M/s\tPython\tratio\tspread of runs")
	for _, codec := range []string{"python", "pickle"} {
		for _, shape := range []string{"numbers", "texts", "rows"} {
			if !strings.Contains(codec+", "+shape, filter) {
				continue
			}
			var times [4][]float64 // seconds of each run: append by Go, append by Python, get by Go, get by Python
			for range turns {
				python, err := program.Python("partd, msgpack", "-c", peerPython, codec, shape)
				if err != nil {
					return err
				}
				for peer, cmd := range []*exec.Cmd{program.Self("-run", codec+" "+shape), python} {
					a, g, err := measure(cmd)
					if err != nil {
						return err
					}
					times[peer] = append(times[peer], a)
					times[2+peer] = append(times[2+peer], g)
				}
			}
			const million = keys * length * rounds / 1e6
			var m [4]float64
			spread := 0.0
			for i, t := range times {
				slices.Sort(t)
				m[i] = million / t[len(t)/2]
				spread = max(spread, t[len(t)-1]/t[0])
			}
			fmt.Fprintf(w, "%s, %s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\tup to %.1f\n", codec, shape, m[0], m[1], m[0]/m[1], m[2], m[3], m[2]/m[3], spread)
		}
	}
	return w.Flush()
}

// measure runs a command that prints its times of appending and getting in seconds, and returns
// them.
func measure(cmd *exec.Cmd) (appending, getting float64, err error) {
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", cmd.Path, err)
	}
	if _, err := fmt.Sscan(string(out), &appending, &getting); err != nil {
		return 0, 0, fmt.Errorf("%s printed %q, want two times in seconds: %w", cmd.Path, out, err)
	}
	return appending, getting, nil
}
