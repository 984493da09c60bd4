package program

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

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// Usage is the resource usage of one run of a command.
type Usage struct {
	Seconds float64
	CPU     float64      // CPU seconds of all processes of the command
	Memory  int64        // peak memory in bytes: the maximum, over all polls, of the sum of the running processes' peaks (VmHWM)
	Trace   [][2]float64 // memory over time, as {seconds since the start, bytes} pairs
	Stdout  string
	Stderr  string
}

var (
	// ErrTimeout is wrapped by the error of a command that was killed because it took too long.
	ErrTimeout = errors.New("took too long")
	// ErrMemory is wrapped by the error of a command that was killed because it used too much memory.
	ErrMemory = errors.New("used too much memory")
)

// RunMeasured runs a command in its own process group and measures its usage. It kills all processes of the group when
// the timeout ends, or if they use more than maxMemory bytes, unless that is 0.
func RunMeasured(ctx context.Context, timeout time.Duration, maxMemory int64, cmd *exec.Cmd) (u Usage, err error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	startTime := time.Now()
	// Start returns only after the child has called exec, so the child's memory no longer includes ours.
	if err := cmd.Start(); err != nil {
		return u, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w, more than %v", ErrTimeout, timeout))
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		u.Memory, u.Trace = watch(cmd.Process.Pid, done, func(memory int64) {
			if maxMemory > 0 && memory > maxMemory {
				abort(fmt.Errorf("%w, more than %s", ErrMemory, cliutil.FormatSize(maxMemory)))
			}
		})
		close(watched)
	}()
	err = cmd.Wait()
	u.Seconds = time.Since(startTime).Seconds()
	stop()
	close(done)
	<-watched
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.Stdout, u.Stderr = stdout.String(), stderr.String()
	switch {
	case err == nil:
		return u, nil
	case ctx.Err() != nil:
		return u, context.Cause(ctx)
	}
	return u, fmt.Errorf("%w: %s", err, lastLine(stderr.String()))
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

const (
	pollEvery      = 10 * time.Millisecond
	pollsPerSearch = 5 // polls between searches for new processes
)

// watch polls the memory of a process and its descendants until done is closed. At each poll, it calls check with the
// total. It returns the largest sum of the processes' peaks, and the totals over time. It reads /proc because a child's
// getrusage also counts memory that the parent had when it forked.
func watch(pid int, done <-chan struct{}, check func(memory int64)) (peak int64, trace [][2]float64) {
	known := map[int]bool{pid: true}
	start := time.Now()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		var total, peaks int64
		for p := range known {
			if n%pollsPerSearch == 0 {
				addChildren(p, known)
			}
			current, highest, _ := procs.Memory(p) // 0 if the process has ended
			total += current
			peaks += highest
		}
		check(total)
		peak = max(peak, peaks)
		if n%pollsPerSearch == 0 {
			trace = append(trace, [2]float64{math.Round(1000*time.Since(start).Seconds()) / 1000, float64(total)})
		}
		select {
		case <-done:
			return peak, trace
		case <-t.C:
		}
	}
}

func addChildren(pid int, known map[int]bool) {
	for _, p := range Children(pid) {
		if !known[p] {
			known[p] = true
			addChildren(p, known)
		}
	}
}

// Children returns the IDs of the child processes of a process.
func Children(pid int) (children []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for child := range strings.FieldsSeq(string(b)) {
			if p, err := strconv.Atoi(child); err == nil {
				children = append(children, p)
			}
		}
	}
	return children
}
