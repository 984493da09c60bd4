package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-partd/partd/bench/internal/appendload"
	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/logstore"
)

type result struct {
	AppendSec    float64 // time of the append calls and the final flush
	WriteSec     float64 // AppendSec plus the time to generate entries
	ScanSec      float64
	P99Micros    float64 // 99th percentile of the append latency
	MaxMillis    float64 // maximum latency of an append
	CPUSec       float64 // CPU time to generate and append entries
	ScanCPUSec   float64
	WrittenBytes int64 // bytes written to the disk while appending, as counted by the kernel
	VmHWM        int64 // peak resident memory, in bytes
	ScanRead     int64 // bytes of values that the timed scan read
}

// measure runs a store in this process. The process must do nothing else, because measure reports
// the resources that the process used.
func measure(name, dir string, l *appendload.Load, o *logstore.Options) (r result, err error) {
	t, err := appendload.Open(name, dir, o)
	if err != nil {
		return r, err
	}
	cpu, written := program.CPU(), program.BytesWritten()
	w, err := l.Write(t)
	if err != nil {
		return r, err
	}
	r.WriteSec, r.AppendSec = w.Total.Seconds(), w.Appending.Seconds()
	r.P99Micros, r.MaxMillis = float64(w.P99.Microseconds()), float64(w.Max.Microseconds())/1000
	r.CPUSec = (program.CPU() - cpu).Seconds()
	r.WrittenBytes = program.BytesWritten() - written
	cpu, start := program.CPU(), time.Now()
	err = t.Scan(func(_ string, b []byte, _ bool) error {
		r.ScanRead += int64(len(b))
		return nil
	})
	r.ScanSec, r.ScanCPUSec = time.Since(start).Seconds(), (program.CPU() - cpu).Seconds()
	if err != nil {
		return r, err
	}
	if err = errors.Join(l.Check(t), t.Close()); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	r.VmHWM = program.Peak(os.Getpid())
	return r, nil
}
