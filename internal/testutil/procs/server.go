package procs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// Server is a server process, running or exited.
type Server struct {
	URLs []string // URLs that the server reported as ready

	cmd    *exec.Cmd
	stderr tail
	done   chan struct{} // closed when the process has exited
	err    error         // from cmd.Wait; valid when done is closed
}

// startTimeout limits the time until a server is ready. Recovering a store can take long.
const startTimeout = time.Minute

// StartServer runs a server's command, and waits until the server has printed one line "ready URL" for
// each of its addresses. If ctx is canceled, the process is killed.
func StartServer(ctx context.Context, cmd *exec.Cmd, addresses int) (*Server, error) {
	p := &Server{cmd: cmd, done: make(chan struct{})}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = &p.stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := func() { _ = cmd.Process.Kill() } // the process may have exited
	stop := context.AfterFunc(ctx, kill)
	timer := time.AfterFunc(startTimeout, kill)
	lines := bufio.NewScanner(out)
	for len(p.URLs) < addresses && lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			p.URLs = append(p.URLs, url)
		}
	}
	isInTime := timer.Stop()
	go func() {
		_, _ = io.Copy(io.Discard, out)
		p.err = cmd.Wait()
		stop()
		close(p.done)
	}()
	switch {
	case len(p.URLs) == addresses:
		return p, nil
	case isInTime:
		err = errors.Join(errors.New("the process exited before it was ready"), lines.Err())
	default:
		err = fmt.Errorf("not ready within %v", startTimeout)
	}
	p.Kill()
	return nil, fmt.Errorf("%s: %w: %s", cmd, err, p.Stderr())
}

func (p *Server) URL() string { return p.URLs[0] }

// Address returns the host and port of the first URL, or the path of the socket.
func (p *Server) Address() (network, address string) {
	if path, ok := strings.CutPrefix(p.URL(), "ipc://"); ok {
		return "unix", path
	}
	_, address, _ = strings.Cut(p.URL(), "://")
	return "tcp", address
}

func (p *Server) Pid() int { return p.cmd.Process.Pid }

func (p *Server) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill kills the process and waits until it has exited.
func (p *Server) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // the process may have exited
	<-p.done
}

// Wait waits until the process has exited, and returns the error of exec.Cmd.Wait. After the
// timeout, it returns another error.
func (p *Server) Wait(timeout time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("the process has not exited within %v", timeout)
	}
}

// HasExited reports whether the process has exited.
func (p *Server) HasExited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop sends SIGTERM and waits until the process has exited. After the timeout it kills the process and returns an
// error.
func (p *Server) Stop(timeout time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("SIGTERM: %w: %s", err, p.Stderr())
	}
	err := p.Wait(timeout)
	if err != nil {
		p.Kill()
		return fmt.Errorf("after SIGTERM: %w: %s", err, p.Stderr())
	}
	return nil
}

// Stderr returns the end of the process's standard error output.
func (p *Server) Stderr() string { return p.stderr.String() }

// tail is a Writer that keeps at least the last tailLen bytes that were written to it.
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

// Memory returns the current and the peak resident memory of a process, in bytes. It needs Linux.
func Memory(pid int) (current, peak int64, err error) {
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
			current = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	if current == 0 {
		return 0, 0, fmt.Errorf("/proc/%d/status does not show the memory", pid)
	}
	return current, peak, nil
}

// CPU returns the processor time that a process has used. It needs Linux.
func CPU(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // skip the process's name, which may contain spaces
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
	const perSecond = 100 // USER_HZ, which is the same on all Linux systems
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// WaitIdle waits until a process, which has just been started, waits for something else: until each of its threads was asleep
// for 100 ms. On systems without /proc, it only waits for a second.
func WaitIdle(t testing.TB, pid int) {
	t.Helper()
	if _, err := os.Stat("/proc/self/task"); err != nil {
		time.Sleep(time.Second)
		return
	}
	asleep := 0
	must.Eventually(t, time.Minute, fmt.Sprintf("process %d is not idle", pid), func() bool {
		asleep++
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // fails only if the pattern is invalid
		for _, path := range threads {
			b, err := os.ReadFile(path)
			if _, state, _ := strings.Cut(string(b), ") "); err != nil || state[0] != 'S' {
				asleep = 0
			}
		}
		return asleep > 20 // Eventually asks every 5 ms
	})
}

// Children returns the IDs of the running processes that a process has started. It needs Linux.
func Children(parent int) (pids []int) { return children(parent, "Z") }

// ChildrenAndZombies is like Children, but also returns processes that have ended, if the parent has not waited for them.
func ChildrenAndZombies(parent int) (pids []int) { return children(parent, "") }

// children returns the IDs of a process's children that are not in the given state.
func children(parent int, except string) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // fails only if the pattern is invalid
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); f[1] == strconv.Itoa(parent) && f[0] != except {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}
