package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/appendload"
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
func measure(name, dir string, l *appendload.Load, o *logstore.Options, cold bool) (r result, err error) {
	r.Store = name
	begin := time.Now()
	t, err := appendload.Open(name, dir, o)
	if err != nil {
		return r, err
	}
	f := l.NewFiller()
	times := make([]time.Duration, 0, l.Entries/uint64(l.Batch)+1)
	cpu, written := program.CPU(), program.BytesWritten()
	start := time.Now()
	var filling time.Duration
	for i := uint64(0); i < l.Entries; i += uint64(l.Batch) {
		t0 := time.Now()
		batch := f.Fill(i)
		t1 := time.Now()
		if err := t.Append(batch); err != nil {
			return r, err
		}
		filling += t1.Sub(t0)
		times = append(times, time.Since(t1))
	}
	if err := t.Flush(); err != nil {
		return r, err
	}
	r.WriteSec = time.Since(start).Seconds()
	r.AppendSec = r.WriteSec - filling.Seconds()
	r.CPUSec = (program.CPU() - cpu).Seconds()
	r.WrittenBytes = program.BytesWritten() - written
	slices.Sort(times)
	r.P99Micros = float64(times[len(times)*99/100].Microseconds())
	r.MaxMillis = float64(times[len(times)-1].Microseconds()) / 1000
	if cold {
		if err := dropCaches(); err != nil {
			return r, err
		}
	}
	cpu, start = program.CPU(), time.Now()
	err = t.Scan(func(_ string, b []byte, first bool) error {
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
	if err = errors.Join(l.Check(t), t.Close()); err != nil {
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

func emptyDir(parent, name string) (string, error) {
	dir := filepath.Join(parent, "partd-bench-"+name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o777)
}
