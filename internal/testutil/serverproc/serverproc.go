// Package serverproc runs a server as its own process, for tests, examples
// and benchmarks: starts it, waits until it is ready, kills it.
package serverproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a server that runs, or ran.
type Process struct {
	URLs []string // of the addresses that it said are ready

	cmd    *exec.Cmd
	stderr tail
	done   chan struct{} // closed when it has ended
	err    error         // of Wait, once it has
}

// startIn is how long a server may take until it is ready. Recovering a store
// takes its time.
const startIn = time.Minute

// Start runs a command and waits until it has printed a line "ready URL" for
// each of its addresses. The end of ctx kills it.
func Start(ctx context.Context, cmd *exec.Cmd, addresses int) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := func() { _ = cmd.Process.Kill() } // it may have ended
	stop := context.AfterFunc(ctx, kill)
	late := time.AfterFunc(startIn, kill)
	lines := bufio.NewScanner(out)
	for len(p.URLs) < addresses && lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			p.URLs = append(p.URLs, url)
		}
	}
	inTime := late.Stop()
	go func() {
		_, _ = io.Copy(io.Discard, out) // what else it says is nobody's
		p.err = cmd.Wait()
		stop()
		close(p.done)
	}()
	switch {
	case len(p.URLs) == addresses:
		return p, nil
	case inTime:
		err = errors.Join(errors.New("it ended before it was ready"), lines.Err())
	default:
		err = fmt.Errorf("not ready within %v", startIn)
	}
	p.Kill()
	return nil, fmt.Errorf("%s: %w: %s", cmd, err, p.Stderr())
}

func (p *Process) URL() string { return p.URLs[0] }

// Address returns the host and port of the first URL, or the path of the socket.
func (p *Process) Address() (network, address string) {
	if path, ok := strings.CutPrefix(p.URL(), "ipc://"); ok {
		return "unix", path
	}
	_, address, _ = strings.Cut(p.URL(), "://")
	return "tcp", address
}

func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process by SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.done
}

// Wait waits for the process's end, and returns its error as exec.Cmd does.
func (p *Process) Wait(within time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(within):
		return fmt.Errorf("the process has not ended within %v", within)
	}
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop ends the process by SIGTERM, and returns what was wrong with that.
func (p *Process) Stop(within time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("SIGTERM: %w: %s", err, p.Stderr())
	}
	err := p.Wait(within)
	if err != nil {
		p.Kill()
		return fmt.Errorf("after SIGTERM: %w: %s", err, p.Stderr())
	}
	return nil
}

// Stderr returns the end of what the process wrote to standard error.
func (p *Process) Stderr() string { return p.stderr.String() }

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailLen = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if len(t.buf) > 2*tailLen {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailLen:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// Memory returns the resident memory of a process in bytes: now, and at the most.
// Only Linux tells it, and CPU; elsewhere there is no /proc to read.
func Memory(pid int) (now, most int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			most = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("/proc/%d/status does not tell the memory", pid)
	}
	return now, most, nil
}

// CPU returns the time for which a process has used a processor.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, which Linux tells programs whatever the kernel's own is
	return time.Duration(ticks) * time.Second / perSecond, nil
}
