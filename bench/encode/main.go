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

func main() { program.Compare(runOne, compare) }

// runOne makes one run. The text run names a codec and a shape of elements: "pickle rows".
func runOne(run string) error {
	codec, shape, _ := strings.Cut(run, " ")
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
	if _, err := program.Python("partd, msgpack"); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "codec, elements\tappend, M/s\tPython\tratio\tget, M/s\tPython\tratio\tspread of runs")
	for _, codec := range []string{"python", "pickle"} {
		for _, shape := range []string{"numbers", "texts", "rows"} {
			if !strings.Contains(codec+", "+shape, filter) {
				continue
			}
			results, err := program.InTurns(turns,
				func() (times, error) { return scanTimes(program.Self("-run", codec+" "+shape), nil) },
				func() (times, error) {
					return scanTimes(program.Python("partd, msgpack", "-c", peerPython, codec, shape))
				})
			if err != nil {
				return err
			}
			const million = keys * length * rounds / 1e6
			var m [4]float64 // append by Go, append by Python, get by Go, get by Python
			spread := 0.0
			for i := range m {
				var t []float64
				for _, r := range results[i%2] {
					t = append(t, r[i/2])
				}
				m[i] = million / program.Median(t)
				spread = max(spread, slices.Max(t)/slices.Min(t))
			}
			fmt.Fprintf(w, "%s, %s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\tup to %.1f\n", codec, shape, m[0], m[1], m[0]/m[1], m[2], m[3], m[2]/m[3], spread)
		}
	}
	return w.Flush()
}

// times are the CPU seconds of appending and of getting.
type times [2]float64

func scanTimes(cmd *exec.Cmd, err error) (t times, _ error) {
	if err == nil {
		err = program.Scan(cmd, &t[0], &t[1])
	}
	return t, err
}
