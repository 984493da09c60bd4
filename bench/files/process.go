package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// usage is the resource usage of one run of a command.
type usage struct {
	seconds float64
	cpu     float64      // CPU seconds of all processes of the command
	memory  int64        // sum of the memory peaks (VmHWM) of these processes, in bytes
	trace   [][2]float64 // pairs of a time in seconds and the memory of these processes in bytes
	stdout  string
}

var errTimeout = errors.New("took too long")

// runMeasured runs a command in its own process group and measures its usage.
func runMeasured(ctx context.Context, timeout time.Duration, cmd *exec.Cmd) (u usage, err error) {
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	startTime := time.Now()
	// When Start returns, the child has executed the new program, so the child's memory no longer
	// includes the memory of this program.
	if err := cmd.Start(); err != nil {
		return u, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		u.memory, u.trace = watch(cmd.Process.Pid, done)
		close(watched)
	}()
	err = cmd.Wait()
	u.seconds = time.Since(startTime).Seconds()
	stop()
	close(done)
	<-watched
	u.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.stdout = out.String()
	switch {
	case err == nil:
		return u, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return u, fmt.Errorf("%w, more than %v", errTimeout, timeout)
	case ctx.Err() != nil:
		return u, ctx.Err()
	}
	return u, fmt.Errorf("%w: %s", err, lastLine(problem.String()))
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

const (
	pollEvery      = 10 * time.Millisecond
	pollsPerSearch = 5 // polls between searches for new processes
)

// watch polls the memory of a process and its descendants until done is closed. It returns the sum
// of their peaks, and their total memory over time. It adds the peaks because the processes of a
// pipeline run at the same time. It reads /proc because getrusage, for a child, also counts the
// memory that the parent had when it forked.
func watch(pid int, done <-chan struct{}) (sum int64, trace [][2]float64) {
	peaks, start := map[int]int64{pid: 0}, time.Now()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		if n%pollsPerSearch == 0 {
			total := int64(0)
			for p := range peaks {
				addChildren(p, peaks)
				memory, _, _ := procs.Memory(p) // 0 if the process has ended
				total += memory
			}
			trace = append(trace, [2]float64{math.Round(1000*time.Since(start).Seconds()) / 1000, float64(total)})
		}
		for p, peak := range peaks {
			peaks[p] = max(peak, program.Peak(p))
		}
		select {
		case <-done:
			for _, peak := range peaks {
				sum += peak
			}
			return sum, trace
		case <-t.C:
		}
	}
}

func addChildren(pid int, peaks map[int]int64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for child := range strings.FieldsSeq(string(b)) {
			p, err := strconv.Atoi(child)
			if _, known := peaks[p]; err == nil && !known {
				peaks[p] = 0
				addChildren(p, peaks)
			}
		}
	}
}
