// Command core compares Dict with a Go map of slices, and File and Buffer with Python's partd.
//
//	go run ./bench/core
//
// Each row of the table compares two programs. They take turns, and each run is a separate
// process. The ratio compares their medians.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/go-partd/partd/bench/internal/program"
)

//go:embed peer.py
var peerPython string

// row is one comparison. Each run appends batches of 1,000 entries of 100 bytes.
type row struct {
	name   string
	ours   string // runOne's argument for the run of this module
	peer   string // the run to compare with: "go" and runOne's argument, or "python" and peer.py's
	target string // the speed that this module should reach, for the table
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

func main() {
	rounds := flag.Int("rounds", 5, "runs of each test; the median is reported")
	filter := flag.String("only", "", "run only rows whose name contains this text")
	runName := flag.String("run", "", "make one run and print its seconds (used internally)")
	flag.Parse()
	var err error
	if *runName != "" {
		err = runOne(*runName)
	} else {
		err = compare(*rounds, *filter)
	}
	program.ExitOnError(err)
}

func compare(rounds int, filter string) error {
	if rounds < 1 {
		return fmt.Errorf("-rounds %d: must be at least 1", rounds)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "append\tours, M entries/s\tMB/s\tpeak RSS, MB\tpeer\tM entries/s\tratio\ttarget")
	for _, r := range rows() {
		if !strings.Contains(r.name, filter) {
			continue
		}
		var ours, peers []float64
		var rss float64
		for range rounds {
			o, m, err := measure("go " + r.ours)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			p, _, err := measure(r.peer)
			if errors.Is(err, program.ErrNoPython) {
				p = 0
			} else if err != nil {
				return fmt.Errorf("%s: %w", r.peer, err)
			}
			ours, peers, rss = append(ours, o), append(peers, p), max(rss, m)
		}
		o, p := program.Median(ours), program.Median(peers)
		peer, ratio := fmt.Sprintf("%.3f", p), fmt.Sprintf("%.1f", o/p)
		if p == 0 {
			peer, ratio = "absent", "-"
		}
		fmt.Fprintf(w, "%s\t%.2f\t%.0f\t%.0f\t%s\t%s\t%s\t%s\n", r.name, o, o*entryBytes, rss, r.peer, peer, ratio, r.target)
	}
	return w.Flush()
}

// measure runs operation ("go" or "python", and an argument) in a new process. It returns the
// speed in millions of entries per second and the peak memory in MB.
func measure(operation string) (rate, rss float64, err error) {
	language, name, _ := strings.Cut(operation, " ")
	dir, err := os.MkdirTemp("", "partd-bench-*")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cmd := program.Self("-run", name)
	if language == "python" {
		if cmd, err = program.Python("partd", "-c", peerPython, name); err != nil {
			return 0, 0, err
		}
	}
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, err
	}
	var entries, seconds float64
	if _, err := fmt.Sscan(string(out), &entries, &seconds, &rss); err != nil {
		return 0, 0, fmt.Errorf("the run printed %q instead of entries, seconds and the peak memory in kB: %w", out, err)
	}
	return entries / seconds / 1e6, rss / 1000, nil
}
