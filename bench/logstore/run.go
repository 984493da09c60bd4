package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/logstore"
)

type result struct {
	Store        string
	AppendSec    float64 // time of append calls and of the final flush
	WriteSec     float64 // AppendSec plus the time of generating entries
	ScanSec      float64
	JobSec       float64 // time of the whole run, including checks
	P99Micros    float64 // 99th percentile of the latency of appends
	MaxMillis    float64 // maximum latency of an append
	CPUSec       float64 // CPU time of generating and appending entries
	ScanCPUSec   float64
	WrittenBytes int64 // bytes written to the disk while appending, as counted by the kernel
	VmHWM        int64 // peak resident memory, in bytes
	Keys         uint64
	ScanRead     int64 // bytes of the values that the timed scan read
}

// measure runs a store in this process. The process must do nothing else, because measure reports
// the resources that the process used.
func measure(name, dir string, l *load, o *logstore.Options, cold bool) (r result, err error) {
	r.Store = name
	begin := time.Now()
	t, err := openTarget(name, dir, o)
	if err != nil {
		return r, err
	}
	f := l.newFiller()
	times := make([]time.Duration, 0, l.entries/uint64(l.batch)+1)
	cpu, written := program.CPU(), bytesWritten()
	start := time.Now()
	var filling time.Duration
	for i := uint64(0); i < l.entries; i += uint64(l.batch) {
		t0 := time.Now()
		batch := f.fill(i)
		t1 := time.Now()
		if err := t.append(batch); err != nil {
			return r, err
		}
		filling += t1.Sub(t0)
		times = append(times, time.Since(t1))
	}
	if err := t.flush(); err != nil {
		return r, err
	}
	r.WriteSec = time.Since(start).Seconds()
	r.AppendSec = r.WriteSec - filling.Seconds()
	r.CPUSec = (program.CPU() - cpu).Seconds()
	r.WrittenBytes = bytesWritten() - written
	slices.Sort(times)
	r.P99Micros = float64(times[len(times)*99/100].Microseconds())
	r.MaxMillis = float64(times[len(times)-1].Microseconds()) / 1000
	if cold {
		if err := dropCaches(); err != nil {
			return r, err
		}
	}
	cpu, start = program.CPU(), time.Now()
	err = t.scan(func(_ string, b []byte, first bool) error {
		r.ScanRead += int64(len(b))
		if first {
			r.Keys++
		}
		return nil
	})
	r.ScanSec, r.ScanCPUSec = time.Since(start).Seconds(), (program.CPU() - cpu).Seconds()
	if err != nil {
		return r, err
	}
	c := &checker{l: l}
	err = t.scan(func(key string, b []byte, first bool) error {
		if first {
			if err := c.beginKey(key); err != nil {
				return err
			}
		}
		return c.checkBytes(b)
	})
	if err = errors.Join(err, c.finish(), t.close()); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	r.JobSec = time.Since(begin).Seconds()
	r.VmHWM = program.Peak(os.Getpid())
	return r, nil
}

// dropCaches empties the kernel's page cache. It needs root.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("1\n"), 0)
}

// bytesWritten returns the bytes that this process has written to disks, or 0 if /proc does not
// report them.
func bytesWritten() int64 {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "write_bytes: "); ok {
			n, _ := strconv.ParseInt(rest, 10, 64)
			return n
		}
	}
	return 0
}

func emptyDir(parent, name string) (string, error) {
	dir := filepath.Join(parent, "partd-bench-"+name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o777)
}
