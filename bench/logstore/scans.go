package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/logstore"
)

var scanLoads = []struct {
	keys uint64
	dist string
}{{1000, "uniform"}, {1_000_000, "uniform"}, {10_000_000, "uniform"}, {1_000_000, "zipf"}}

// scanTime is the time of one scan of a store, in seconds.
type scanTime struct{ cpu, wall float64 }

// compareScans writes the entries of each load to hash files and to a log store. It alternates
// between the two when reading, so that other load on the machine affects both.
func (f *flags) compareScans() error {
	fmt.Printf("Reading %s in values of %d bytes, logstore memory %s, medians of %d rounds. Ratios compare CPU time; the one for two cores compares elapsed time.\n",
		f.bytes.String(), f.value, f.memory.String(), f.rounds)
	const head = "%-20s %10s %10s %10s %10s %12s\n"
	fmt.Printf(head, "", "bare", "Scan", "Scan ÷", "2 cores ÷", "4 parts ÷")
	fmt.Printf(head, "", "CPU MB/s", "CPU MB/s", "bare", "1 core", "Scan (CPU)")
	for _, sl := range scanLoads {
		l, err := appendload.NewLoad(sl.keys, uint64(f.bytes)/uint64(f.value), f.value, f.batch, sl.dist)
		if err != nil {
			return err
		}
		if err := f.compareScan(l, fmt.Sprintf("%d %s", sl.keys, sl.dist)); err != nil {
			return err
		}
	}
	return nil
}

func (f *flags) compareScan(l *appendload.Load, name string) (err error) {
	dir, err := os.MkdirTemp(f.dir, "partd-bench-scan-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	stores := map[string]appendload.Target{}
	for _, name := range []string{"hashfiles-bare", "logstore"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		t, err := appendload.Open(name, path, &logstore.Options{Memory: int64(f.memory)})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		stores[name] = t
		if _, err := l.Write(t); err != nil {
			return err
		}
	}
	bare, log := stores["hashfiles-bare"], stores["logstore"].(*appendload.LogStore)
	want := int64(l.Entries) * int64(l.Value)
	kinds := []struct {
		name  string
		procs int
		scan  func(handle func(key string, b []byte, isFirst bool) error) error
	}{
		{"bare", 1, bare.Scan}, {"scan", 1, log.Scan}, {"two", 2, log.Scan}, {"parts", 1, func(handle func(string, []byte, bool) error) error { return scanParts(log, handle) }},
	}
	var columns [5][]float64
	for range f.rounds {
		var times [4]scanTime
		for i, k := range kinds {
			if times[i], err = timeScan(k.procs, want, k.scan); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		bare, scan, two, parts := times[0], times[1], times[2], times[3]
		mb := float64(want) / 1e6
		for i, x := range []float64{mb / bare.cpu, mb / scan.cpu, bare.cpu / scan.cpu, scan.wall / two.wall, parts.cpu / scan.cpu} {
			columns[i] = append(columns[i], x)
		}
	}
	fmt.Printf("%-20s %10.0f %10.0f %10.2f %10.2f %12.2f\n", name, program.Median(columns[0]),
		program.Median(columns[1]), program.Median(columns[2]), program.Median(columns[3]), program.Median(columns[4]))
	return nil
}

// timeScan times a scan with GOMAXPROCS set to procs. It returns an error unless the scan reads
// want bytes.
func timeScan(procs int, want int64, scan func(handle func(key string, b []byte, isFirst bool) error) error) (scanTime, error) {
	runtime.GC()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	cpu, start, bytesRead := program.CPU(), time.Now(), int64(0)
	err := scan(func(_ string, b []byte, _ bool) error {
		bytesRead += int64(len(b))
		return nil
	})
	t := scanTime{(program.CPU() - cpu).Seconds(), time.Since(start).Seconds()}
	if err == nil && bytesRead != want {
		err = fmt.Errorf("read %d bytes of %d", bytesRead, want)
	}
	return t, err
}

// scanParts reads a store in four parts.
func scanParts(log *appendload.LogStore, handle func(key string, b []byte, isFirst bool) error) error {
	for p := range 4 {
		if err := appendload.HandleChunks(partd.ScanPart(context.Background(), log.S, p, 4), handle); err != nil {
			return err
		}
	}
	return nil
}
