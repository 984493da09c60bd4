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

	"github.com/go-partd/partd/logstore"
)

// result is what one run of one store measured.
type result struct {
	Store        string
	AppendSec    float64 // in calls of append, and of the flush at the end
	WriteSec     float64 // first append to everything flushed, making the entries included
	ScanSec      float64
	JobSec       float64 // all of it, checking included
	P99Micros    float64 // of an append
	MaxMillis    float64 // of an append
	CPUSec       float64 // of appending, making the entries included
	ScanCPUSec   float64
	WrittenBytes int64 // to the disk while appending, as the kernel counts
	VmHWM        int64 // peak resident memory, bytes
	Keys         uint64
	ScanRead     int64 // bytes of values seen by the timed scan
}

// measure runs one store. It is called in a process of its own.
func measure(name, dir string, l *load, o *logstore.Options, cold bool) (r result, err error) {
	r.Store = name
	begin := time.Now()
	t, err := openTarget(name, dir, o)
	if err != nil {
		return r, err
	}
	f := l.newFiller()
	times := make([]time.Duration, 0, l.entries/uint64(l.batch)+1)
	cpu, io := cpuTime(), procIO("write_bytes")
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
	r.CPUSec = (cpuTime() - cpu).Seconds()
	r.WrittenBytes = procIO("write_bytes") - io
	slices.Sort(times)
	r.P99Micros = float64(times[len(times)*99/100].Microseconds())
	r.MaxMillis = float64(times[len(times)-1].Microseconds()) / 1000
	if cold {
		if err := dropCaches(); err != nil {
			return r, err
		}
	}
	cpu, start = cpuTime(), time.Now()
	err = t.scan(func(_ string, b []byte, first bool) error {
		r.ScanRead += int64(len(b))
		if first {
			r.Keys++
		}
		return nil
	})
	r.ScanSec, r.ScanCPUSec = time.Since(start).Seconds(), (cpuTime() - cpu).Seconds()
	if err != nil {
		return r, err
	}
	c := &checker{l: l}
	err = t.scan(func(key string, b []byte, first bool) error {
		if first {
			if err := c.begin(key); err != nil {
				return err
			}
		}
		return c.bytes(b)
	})
	if err = errors.Join(err, c.end(), t.close()); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	r.JobSec = time.Since(begin).Seconds()
	r.VmHWM = vmHWM()
	return r, nil
}

// dropCaches makes the kernel forget what it holds of files, which takes
// being root.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("1\n"), 0)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procIO returns a line of /proc/self/io, 0 where there is none.
func procIO(name string) int64 { return procLine("/proc/self/io", name) }

func vmHWM() int64 { return procLine("/proc/self/status", "VmHWM") << 10 }

func procLine(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// emptyDir makes a directory for one run.
func emptyDir(parent, name string) (string, error) {
	dir := filepath.Join(parent, "partd-bench-"+name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o777)
}
