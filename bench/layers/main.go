// Command layers compares the compressing layers of this module with those of Python's partd,
// each on a Dict. It can also measure all formats on real data.
//
//	go run -C bench ./layers                               # compare with Python
//	go run -C bench ./layers -codecs                       # all formats, on testdata/birdstrikes.csv
//	go run -C bench ./layers -codecs -contents Contents-amd64
//
// In the comparison, the two programs take turns, and each run is a separate process. A run reads
// back the appended data and prints a checksum, which must be the same for both programs. The ratio
// compares the medians.
package main

import (
	"cmp"
	_ "embed"
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
	peer    string // the class in Python's partd, or "" if it has none
	value   int    // bytes per value
	batch   int    // values per append
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
	data := flag.String("data", "testdata/birdstrikes.csv", "`file` to cut values from")
	codecs := flag.Bool("codecs", false, "instead, write a Markdown table that compares all formats on real data")
	contents := flag.String("contents", "", "with -codecs, an additional text `file` to measure, such as Debian's Contents-amd64 (uncompressed)")
	program.Compare(func(run string) error { return runOne(run, *data) }, func(rounds int, only string) error {
		if *codecs {
			return writeTable(*data, *contents, rounds)
		}
		return compare(*data, only, rounds)
	})
}

func compare(dataFile, filter string, rounds int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "format (over Dict)\tvalue size\tappend, MB/s\t(range)\tPython\tratio\tper CPU-s, MB\tPython\tget, MB/s\tPython\tratio\ttarget")
	for _, r := range rows() {
		if !strings.Contains(string(r.format), filter) {
			continue
		}
		measurements := []func() (figures, error){func() (figures, error) { return measure(r, dataFile, false) }}
		if r.peer != "" {
			measurements = append(measurements, func() (figures, error) { return measure(r, dataFile, true) })
		}
		results, err := program.InTurns(rounds, measurements...)
		if err != nil {
			return fmt.Errorf("%s: %w", r.format, err)
		}
		ours, peers := results[0], slices.Concat(results[1:]...)
		for _, f := range slices.Concat(ours, peers) {
			if f.sum != ours[0].sum {
				return fmt.Errorf("the values of %s have checksum %s in one run, but %s in another run or in Python", r.format, ours[0].sum, f.sum)
			}
		}
		appendRate, cpuRate, getRate := program.MedianOf(ours, figures.append), program.MedianOf(ours, figures.perCPU), program.MedianOf(ours, figures.get)
		slices.SortFunc(ours, func(a, b figures) int { return cmp.Compare(a.append(), b.append()) })
		suffix := ""
		if r.uniform {
			suffix = ", one repeated letter"
		}
		fmt.Fprintf(w, "%s\t%d B%s\t%.0f\t(%.0f-%.0f)", r.format, r.value, suffix, appendRate, ours[0].append(), ours[len(ours)-1].append())
		if len(peers) == 0 {
			fmt.Fprintf(w, "\t-\t-\t%.0f\t-\t%.0f\t-\t-\t%s\n", cpuRate, getRate, r.target)
			continue
		}
		peerAppendRate, peerCPURate, peerGetRate := program.MedianOf(peers, figures.append), program.MedianOf(peers, figures.perCPU), program.MedianOf(peers, figures.get)
		fmt.Fprintf(w, "\t%.0f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%s\n",
			peerAppendRate, appendRate/peerAppendRate, cpuRate, peerCPURate, getRate, peerGetRate, getRate/peerGetRate, r.target)
	}
	return w.Flush()
}

type figures struct {
	bytes, appendSeconds, getSeconds float64
	appendCPU                        float64 // CPU seconds
	sum                              string  // CRC-32 of all values, in key order
}

func (f figures) append() float64 { return f.bytes / f.appendSeconds / 1e6 }
func (f figures) perCPU() float64 { return f.bytes / f.appendCPU / 1e6 }
func (f figures) get() float64    { return f.bytes / f.getSeconds / 1e6 }

func measure(r row, dataFile string, peer bool) (figures, error) {
	args := []string{string(r.format), strconv.Itoa(r.value), strconv.Itoa(r.batch), strconv.Itoa(r.total)}
	if r.uniform {
		dataFile = uniform
	}
	cmd := program.Self("-data", dataFile, "-run", strings.Join(args, " "))
	if peer {
		args[0] = r.peer
		var err error
		if cmd, err = program.Python("partd, snappy, blosc", append([]string{"-c", peerPython, dataFile}, args...)...); err != nil {
			return figures{}, err
		}
	}
	var f figures
	err := program.Scan(cmd, &f.bytes, &f.appendSeconds, &f.appendCPU, &f.getSeconds, &f.sum)
	return f, err
}
