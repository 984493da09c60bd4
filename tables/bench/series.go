//go:build cgo && unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

// seriesTables is the number of small tables to write and to search by metadata.
const seriesTables = 1000

type results struct {
	Seconds map[string]float64 // median time of each operation
	Results map[string]float64 // the operations' results, which must be equal in all programs
	Prices  int64              // size of the series on disk in bytes
	Bytes   int64              // size of everything on disk in bytes
	Files   int
	err     error
}

// measure runs f in each round and records its median time. It does nothing after an error.
func (m *results) measure(name string, rounds int, f func(round int) error) {
	if m.err != nil {
		return
	}
	round := -1
	medians, err := inTurns(rounds, 0, func() error { round++; return f(round) })
	if err != nil {
		m.err = fmt.Errorf("%s: %w", name, err)
		return
	}
	m.Seconds[name] = medians[0]
}

// measureReading measures how long it takes to read rows. It records their number and the sum of their values.
func (m *results) measureReading(name, rows, sum string, rounds int, open func() (array.RecordReader, error)) {
	m.measure(name, rounds, func(int) error {
		r, err := open()
		if err != nil {
			return err
		}
		defer r.Release()
		m.Results[rows], m.Results[sum], err = sums(r)
		return err
	})
}

// seriesBench measures time series.
type seriesBench struct {
	*bench
	seriesRows int
}

// measureSeries compares operations on time series with pystore and ArcticDB, on data from pandas: appending
// to a large table, reading a time range, resampling, and writing and searching many small tables.
func (b *seriesBench) measureSeries() error {
	appendedRows := max(b.seriesRows/10, 2000)
	if err := b.runPython("series.py", "pandas", nil, "make", fmt.Sprint(b.seriesRows), fmt.Sprint(appendedRows)); err != nil {
		return err
	}
	// Measure both with and without syncs: ArcticDB syncs each append (to LMDB), and pystore never syncs.
	ours, err := b.measureOurSeries(appendedRows, false)
	if err != nil {
		return err
	}
	synced, err := b.measureOurSeries(appendedRows, true)
	if err != nil {
		return err
	}
	b.reportSeries("tables", ours)
	for _, name := range slices.Sorted(maps.Keys(synced.Seconds)) {
		if strings.HasPrefix(name, "append") || name == "tables" {
			b.report(name, "tables, synced", synced.Seconds[name], b.rounds)
		}
	}
	for _, peer := range []string{"pystore", "arcticdb"} {
		var theirs results
		if err := b.runPython("series.py", peer, &theirs, peer, fmt.Sprint(seriesTables)); err != nil {
			return err
		}
		b.reportSeries(peer, &theirs)
		for name, got := range theirs.Results {
			if want := ours.Results[name]; math.Abs(got-want) > 1e-9*math.Abs(want) {
				err = errors.Join(err, fmt.Errorf("%s: %s is %v, ours is %v", peer, name, got, want))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *seriesBench) reportSeries(contender string, m *results) {
	fmt.Printf("time series of %d rows, %s: %.1f MB on disk, %.1f MB with all tables, in %d files\n",
		b.seriesRows, contender, float64(m.Prices)/1e6, float64(m.Bytes)/1e6, m.Files)
	for _, name := range slices.Sorted(maps.Keys(m.Seconds)) {
		b.report(name, contender, m.Seconds[name], b.rounds)
	}
}

// readParquet returns the batches of a file that series.py wrote. It reads the whole file into memory.
func (b *seriesBench) readParquet(name string) (all []arrow.RecordBatch, err error) {
	err = b.withParquet(filepath.Join(b.dir, name+".parquet"), func(r array.RecordReader) error {
		for r.Next() {
			r.RecordBatch().Retain()
			all = append(all, r.RecordBatch())
		}
		return r.Err()
	})
	return all, err
}

// measureOurSeries measures time series in package tables. appendedRows is the number of rows of the largest
// append.
func (b *seriesBench) measureOurSeries(appendedRows int, sync bool) (*results, error) {
	m := &results{Seconds: map[string]float64{}, Results: map[string]float64{}}
	return m, b.withSQL(nil, tables.Options{Sync: sync}, func(s *tables.Store) error {
		series := &tables.Settings{Time: "at"}
		base, err := b.readParquet("base")
		if err == nil {
			// put uses the schema of the batches, because the file's schema has other metadata.
			err = b.put(s, "series", &tables.PutOptions{Settings: series}, base...)
		}
		if err != nil {
			return err
		}
		for _, size := range []int{1, 1000, appendedRows} {
			parts := make([][]arrow.RecordBatch, b.rounds)
			for i := range parts {
				if parts[i], err = b.readParquet(fmt.Sprintf("more-%d-%d", size, i)); err != nil {
					return err
				}
			}
			m.measure(fmt.Sprint("append ", size), b.rounds, func(i int) error { return b.put(s, "series", nil, parts[i]...) })
		}
		fold := func(int) error { // appends do not write data files; a fold does
			_, err := s.Fold(b.ctx, nil)
			return err
		}
		m.measure("fold the series", 1, fold)
		if err := b.measureReads(s, m); err != nil {
			return errors.Join(m.err, err)
		}
		if m.Prices, _, err = diskUse(s.Dir()); err != nil {
			return err
		}
		small, err := b.readParquet("small")
		if err != nil {
			return err
		}
		m.measure("tables", 1, func(int) error {
			return repeat(seriesTables, func(i int) error {
				return b.put(s, fmt.Sprint("t", i), &tables.PutOptions{Settings: series, Metadata: tables.Metadata{"group": i % 10}}, small...)
			})
		})
		m.measure("find", b.rounds, func(int) error {
			matches := 0
			for _, err := range s.Bucket("b").Tables(b.ctx, &tables.Filter{Metadata: tables.Metadata{"group": 7}}) {
				if err != nil {
					return err
				}
				matches++
			}
			m.Results["found"] = float64(matches)
			return nil
		})
		m.measure("fold the tables", 1, fold)
		m.Bytes, m.Files, err = diskUse(s.Dir())
		return errors.Join(m.err, err)
	})
}

func (b *seriesBench) measureReads(s *tables.Store, m *results) error {
	const step = 100 * time.Millisecond
	t := s.Bucket("b").Table("series")
	info, err := t.Info(b.ctx)
	if err != nil {
		return err
	}
	m.Results["rows"] = float64(info.Rows)
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(b.seriesRows/2) * step)
	o := &tables.ScanOptions{Columns: []string{"price", "size"}, From: begin, To: begin.Add(time.Duration(b.seriesRows/100) * step), TimeColumn: "at"}
	m.measureReading("range", "range rows", "range sum", b.rounds, func() (array.RecordReader, error) { return t.Scan(b.ctx, o) })
	bins := &transform.ResampleOptions{
		Source: transform.TableName{Bucket: "b", Name: "series"}, Target: transform.TableName{Bucket: "c", Name: "bins"}, Mode: tables.PutReplace,
		Rule: "min", TimeColumn: "at", Functions: []string{"mean"}, Columns: []string{"price"},
	}
	m.measureReading("resample", "bins", "bins sum", b.rounds, func() (array.RecordReader, error) { return transform.Resampled(b.ctx, s, bins) })
	m.measure("resample and write", b.rounds, func(int) error {
		_, err := transform.Resample(b.ctx, s, bins)
		return err
	})
	return nil
}

func sums(r array.RecordReader) (rows, sum float64, err error) {
	for r.Next() {
		rows += float64(r.RecordBatch().NumRows())
		for _, c := range r.RecordBatch().Columns() {
			switch c := c.(type) {
			case *array.Float64:
				for _, v := range c.Float64Values() {
					sum += v
				}
			case *array.Int64:
				for _, v := range c.Int64Values() {
					sum += float64(v)
				}
			}
		}
	}
	return rows, sum, r.Err()
}

func diskUse(dir string) (bytes int64, files int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		files++
		return nil
	})
	return bytes, files, err
}
