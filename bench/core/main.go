// Command core compares Dict with a Go map of slices, and File and Buffer with Python's partd.
//
//	go run -C bench ./core
//
// Each row of the table compares two programs. They take turns, and each run is a separate
// process. The ratio compares their medians.
package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-partd/partd/bench/internal/program"
)

//go:embed peer.py
var peerPython string

// row is one comparison. Each run appends batches of 1,000 entries of 100 bytes.
type row struct {
	name   string
	ours   string // argument of runOne for the run of this module
	peer   string // the run to compare with: "go" and an argument of runOne, or "python" and one of peer.py
	target string // the speed that this module should reach; only printed
}

func rows() []row {
	return []row{
		{"Dict, 1,000 keys", "dict 1000", "go map 1000", ">= 15 M/s"},
		{"Dict, 1,000,000 keys", "dict 1000000", "go map 1000000", ">= 3 M/s"},
		{"File, 1,000 keys", "file 1000", "python file", ">= 0.5 M/s"},
		{"Buffer(Dict, File), 0.5 GB in 1 GiB", "buffer 1000", "python buffer", ">= 800 MB/s"},
		{"Buffer(Dict, File), 2 GB in 256 MiB", "spill 1000", "python spill", "-"},
		{"Buffer(Dict, logstore), 0.5 GB in 256 MiB, 1,000,000 keys", "many 1000000", "go map 1000000", "-"},
		{"Buffer(Dict, logstore), 0.5 GB in 256 MiB, 1,000,000 keys, Zipf", "zipf 1000000", "go map 1000000", "-"},
	}
}

func main() { program.Compare(runOne, compare) }

func compare(rounds int, filter string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "append\tours, M entries/s\tMB/s\tpeak RSS, MB\tpeer\tM entries/s\tratio\ttarget")
	for _, r := range rows() {
		if !strings.Contains(r.name, filter) {
			continue
		}
		results, err := program.InTurns(rounds,
			func() (result, error) { return measure("go " + r.ours) },
			func() (result, error) { return measure(r.peer) })
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		ourRate, peerRate := program.MedianOf(results[0], result.rate), program.MedianOf(results[1], result.rate)
		rss := slices.MaxFunc(results[0], func(a, b result) int { return cmp.Compare(a.rss, b.rss) }).rss / 1000
		peer, ratio := fmt.Sprintf("%.3f", peerRate), fmt.Sprintf("%.1f", ourRate/peerRate)
		if peerRate == 0 {
			peer, ratio = "absent", "-"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.0f\t%.0f\t%s\t%s\t%s\t%s\n", r.name, ourRate, ourRate*entryBytes, rss, r.peer, peer, ratio, r.target)
	}
	return w.Flush()
}

// result holds what a run prints: the number of entries, the seconds, and the peak memory in kB.
type result struct{ entries, seconds, rss float64 }

// rate returns the speed in millions of entries per second.
func (r result) rate() float64 { return r.entries / r.seconds / 1e6 }

// measure runs an operation, such as "go dict 1000" or "python file", in a new process.
func measure(operation string) (r result, err error) {
	language, name, _ := strings.Cut(operation, " ")
	dir, err := os.MkdirTemp("", "partd-bench-*")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	cmd := program.Self("-run", name)
	if language == "python" {
		if cmd, err = program.Python("partd", "-c", peerPython, name); err != nil {
			return r, err
		}
	}
	cmd.Dir = dir
	err = program.Scan(cmd, &r.entries, &r.seconds, &r.rss)
	return r, err
}
