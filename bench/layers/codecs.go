package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/compress/blosc"
)

type setting struct {
	format compress.Format
	name   string // the options, as shown in the table
	opts   compress.Options
}

func settings() []setting {
	return []setting{
		{compress.Snappy, "", compress.Options{}},
		{compress.LZ4, "1", compress.Options{Level: 1}},
		{compress.LZ4, "9", compress.Options{Level: 9}},
		{compress.S2, "1", compress.Options{Level: 1}},
		{compress.S2, "3", compress.Options{Level: 3}},
		{compress.Zstd, "1", compress.Options{Level: 1}},
		{compress.Zstd, "3", compress.Options{Level: 3}},
		{compress.Zstd, "10", compress.Options{Level: 10}},
		{compress.Zlib, "1", compress.Options{Level: 1}},
		{compress.Zlib, "6", compress.Options{Level: 6}},
		{compress.Gzip, "6", compress.Options{Level: 6}},
		{compress.BZ2, "9", compress.Options{Level: 9}},
		{compress.Blosc, "lz4, byte", compress.Options{}},
		{compress.Blosc, "lz4, bit", compress.Options{Shuffle: blosc.BitShuffle}},
		{compress.Blosc, "zstd, byte", compress.Options{Inner: blosc.Zstd}},
	}
}

// sample is real data on which formats are measured.
type sample struct {
	name string
	data []byte
}

func valueLengths() []int { return []int{100, 4 << 10, 64 << 10} }

// writeTable writes a Markdown table of all formats on real data. Speeds are in MB per second
// of CPU time.
func writeTable(dataPath, contentsPath string, rounds int) error {
	runtime.GOMAXPROCS(1)
	samples, err := readSamples(dataPath, contentsPath)
	if err != nil {
		return err
	}
	for _, s := range samples {
		fmt.Printf("### %s, %.1f MB\n\n", s.name, float64(len(s.data))/1e6)
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
		fmt.Fprintln(w, "| format\t| level\t| ratio at 100 B\t| at 4 KiB\t| at 64 KiB\t| compress, MB/s\t| decompress, MB/s\t|")
		fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
		for _, set := range settings() {
			if err := tableRow(w, s, set, rounds); err != nil {
				return fmt.Errorf("measuring %s on %s: %w", set.format, s.name, err)
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

func tableRow(w *tabwriter.Writer, s sample, set setting, rounds int) error {
	var ratios, compressSpeeds, decompressSpeeds []float64
	for _, n := range valueLengths() {
		r, err := measureCodec(s.data, set, n)
		if err != nil {
			return err
		}
		ratios = append(ratios, r.ratio)
	}
	for range rounds {
		r, err := measureCodec(s.data, set, slices.Max(valueLengths()))
		if err != nil {
			return err
		}
		compressSpeeds, decompressSpeeds = append(compressSpeeds, r.compress), append(decompressSpeeds, r.decompress)
	}
	fmt.Fprintf(w, "| %s\t| %s\t| %.2f\t| %.2f\t| %.2f\t| %.0f\t| %.0f\t|\n",
		set.format, set.name, ratios[0], ratios[1], ratios[2], program.Median(compressSpeeds), program.Median(decompressSpeeds))
	return nil
}

// codecFigures holds the results of one setting on one sample with one value length. The
// speeds are in MB per second of CPU time.
type codecFigures struct{ ratio, compress, decompress float64 }

// measureCodec appends a sample in values of piece bytes to one key and reads it back. It repeats
// this if the sample is small. The times include memory copies.
func measureCodec(data []byte, set setting, piece int) (codecFigures, error) {
	ctx := context.Background()
	dict := partd.NewDict()
	store, err := compress.New(dict, set.format, &set.opts)
	if err != nil {
		return codecFigures{}, err
	}
	var entries []partd.Entry
	for part := range slices.Chunk(data, piece) {
		entries = append(entries, partd.Entry{Key: "k", Value: part})
	}
	const minSeconds = 0.1
	var f codecFigures
	var appending, getting float64
	bytesDone := 0
	for appending < minSeconds {
		if err := dict.Drop(ctx); err != nil {
			return f, err
		}
		start := program.CPU()
		if err := store.Append(ctx, entries...); err != nil {
			return f, err
		}
		appending += (program.CPU() - start).Seconds()
		start = program.CPU()
		v, err := store.Get(ctx, "k")
		if err != nil {
			return f, err
		}
		getting += (program.CPU() - start).Seconds()
		bytesDone += len(data)
		if !bytes.Equal(v[0], data) {
			return f, fmt.Errorf("the %d bytes read differ from the %d bytes appended", len(v[0]), len(data))
		}
	}
	st, err := dict.Stat(ctx)
	if err != nil {
		return f, err
	}
	f.ratio = float64(len(data)) / float64(st.Bytes)
	f.compress = float64(bytesDone) / appending / 1e6
	f.decompress = float64(bytesDone) / max(getting, 1e-3) / 1e6
	return f, store.Close()
}

func readSamples(dataPath, contentsPath string) ([]sample, error) {
	f, err := os.Open(dataPath)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dataPath, err)
	}
	samples := []sample{
		{"Rows of birdstrikes.csv, grouped by state", byState(rows)},
		{"Numbers of birdstrikes.csv, 8 bytes each, by column", numericColumns(rows)},
	}
	if contentsPath != "" {
		text, err := os.ReadFile(contentsPath)
		if err != nil {
			return nil, err
		}
		const maxBytes = 8 << 20
		samples = append(samples, sample{"Debian's list of files, Contents-amd64", text[:min(len(text), maxBytes)]})
	}
	return samples, nil
}

// byState returns the rows as CSV, grouped by state, as in a store after a shuffle by state.
func byState(rows [][]string) []byte {
	const stateColumn = 5
	rows = slices.Clone(rows[1:])
	slices.SortStableFunc(rows, func(a, b []string) int { return cmp.Compare(a[stateColumn], b[stateColumn]) })
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.WriteAll(rows) // writing to memory cannot fail
	return out.Bytes()
}

func numericColumns(rows [][]string) []byte {
	var out []byte
	for column := 10; column < 14; column++ {
		for _, row := range rows[1:] {
			n, _ := strconv.ParseInt(row[column], 10, 64) // 0 if empty
			out = binary.LittleEndian.AppendUint64(out, uint64(n))
		}
	}
	return out
}
