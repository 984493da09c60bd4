// Command layers compares the compressing layers of this module with those of Python's partd,
// each on a Dict. It can also measure all formats on real data.
//
//	go run ./bench/layers                               # compare with Python
//	go run ./bench/layers -codecs                       # the table of docs/compression.md
//	go run ./bench/layers -codecs -contents Contents-amd64
//
// In the comparison, the two programs take turns, and each run is a separate process. A run reads
// back the appended data and prints a checksum, which must be the same for both programs. The ratio
// compares the medians.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/compress"
)

//go:embed peer.py
var peerPython string

// uniform is the value of -data for data that consists only of the letter v.
const uniform = "v"

// row is one comparison: a layer, and values of one size.
type row struct {
	format  compress.Format
	peer    string // the class of Python's partd, or "" if there is none
	value   int    // bytes of a value
	batch   int    // values per Append
	total   int    // bytes of all values
	target  string
	uniform bool // values contain only the letter v, not text
}

func rows() []row {
	var rows []row
	for _, r := range []row{
		{format: compress.Snappy, peer: "Snappy", total: 200 << 20, target: ">= 500 MB/s, >= 2.5 x"},
		{format: compress.Zlib, peer: "ZLib", total: 20 << 20},
		{format: compress.BZ2, peer: "BZ2", total: 4 << 20},
		{format: compress.Blosc, peer: "Blosc", total: 100 << 20},
		{format: compress.S2, total: 200 << 20},
		{format: compress.LZ4, total: 100 << 20},
		{format: compress.Zstd, total: 100 << 20},
		{format: compress.Gzip, total: 20 << 20},
	} {
		r.value, r.batch = 100, 1000
		rows = append(rows, r)
		if r.format == compress.Snappy {
			r.uniform = true
			rows = append(rows, r)
			r.uniform = false
		}
		r.value, r.batch = 16<<10, 64
		rows = append(rows, r)
	}
	return rows
}

func main() {
	rounds := flag.Int("rounds", 5, "runs of each test; the median is reported")
	filter := flag.String("only", "", "run only formats whose name contains this text")
	data := flag.String("data", "testdata/birdstrikes.csv", "`file` to cut values from")
	codecs := flag.Bool("codecs", false, "write the table of all formats, measured on real data")
	contents := flag.String("contents", "", "with -codecs: another text `file`, such as Debian's list Contents-amd64, uncompressed")
	runSpec := flag.String("run", "", "make one run and print its figures (used internally)")
	flag.Parse()
	var err error
	switch {
	case *rounds < 1:
		err = fmt.Errorf("-rounds %d: must be at least 1", *rounds)
	case *runSpec != "":
		err = runOne(*runSpec, *data)
	case *codecs:
		err = writeTable(*data, *contents, *rounds)
	default:
		err = compare(*data, *filter, *rounds)
	}
	program.ExitOnError(err)
}

func compare(data, filter string, rounds int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "over Dict\tvalues of\tappend, MB/s\t(range)\tPython\tratio\tper CPU-s, MB\tPython\tget, MB/s\tPython\tratio\ttarget")
	for _, r := range rows() {
		if !strings.Contains(string(r.format), filter) {
			continue
		}
		var ours, peers []figures
		for range rounds {
			o, err := measure(r, data, false)
			if err != nil {
				return fmt.Errorf("%s: %w", r.format, err)
			}
			ours = append(ours, o)
			if r.peer == "" {
				continue
			}
			p, err := measure(r, data, true)
			if errors.Is(err, program.ErrNoPython) {
				continue
			} else if err != nil {
				return fmt.Errorf("%s of Python: %w", r.peer, err)
			}
			if p.sum != o.sum {
				return fmt.Errorf("the values of %s have the checksum %s, but the values of Python's %s have %s", r.format, o.sum, r.peer, p.sum)
			}
			peers = append(peers, p)
		}
		a, c, g := figuresOf(ours, figures.append), figuresOf(ours, figures.perCPU), figuresOf(ours, figures.get)
		suffix := ""
		if r.uniform {
			suffix = ", one repeated letter"
		}
		fmt.Fprintf(w, "%s\t%d B%s\t%.0f\t(%.0f-%.0f)", r.format, r.value, suffix, program.Median(a), a[0], a[len(a)-1])
		if len(peers) == 0 {
			fmt.Fprintf(w, "\t-\t-\t%.0f\t-\t%.0f\t-\t-\t%s\n", program.Median(c), program.Median(g), r.target)
			continue
		}
		pa, pc, pg := program.Median(figuresOf(peers, figures.append)), program.Median(figuresOf(peers, figures.perCPU)), program.Median(figuresOf(peers, figures.get))
		fmt.Fprintf(w, "\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%s\n",
			pa, program.Median(a)/pa, program.Median(c), pc, program.Median(g), pg, program.Median(g)/pg, r.target)
	}
	return w.Flush()
}

type figures struct {
	bytes, appendSeconds, getSeconds float64
	appendCPU                        float64 // CPU seconds
	sum                              string  // CRC-32 of all values, in the order of keys
}

func (f figures) append() float64 { return f.bytes / f.appendSeconds / 1e6 }
func (f figures) perCPU() float64 { return f.bytes / f.appendCPU / 1e6 }
func (f figures) get() float64    { return f.bytes / f.getSeconds / 1e6 }

func measure(r row, data string, peer bool) (figures, error) {
	args := []string{string(r.format), strconv.Itoa(r.value), strconv.Itoa(r.batch), strconv.Itoa(r.total)}
	if r.uniform {
		data = uniform
	}
	cmd := program.Self("-data", data, "-run", strings.Join(args, " "))
	if peer {
		args[0] = r.peer
		var err error
		if cmd, err = program.Python("partd, snappy, blosc", append([]string{"-c", peerPython, data}, args...)...); err != nil {
			return figures{}, err
		}
	}
	out, err := cmd.Output()
	if err != nil {
		return figures{}, err
	}
	var f figures
	if _, err := fmt.Sscan(string(out), &f.bytes, &f.appendSeconds, &f.appendCPU, &f.getSeconds, &f.sum); err != nil {
		return f, fmt.Errorf("the run printed %q instead of bytes, three times in seconds, and a checksum: %w", out, err)
	}
	return f, nil
}

func figuresOf(results []figures, value func(figures) float64) []float64 {
	var v []float64
	for _, f := range results {
		v = append(v, value(f))
	}
	slices.Sort(v)
	return v
}
