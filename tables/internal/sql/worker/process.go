//go:build unix

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Supported reports whether workers can be started here.
const Supported = true

// File descriptors that a worker inherits, besides its standard error.
const (
	socketFD = 3
	fileFD   = 4

	// bytes of the worker's socket buffer; enough to produce a batch while the previous one is sent
	writeBuffer = 4 << 20
)

// Process is the server's side of a worker.
type Process struct {
	*Conn
	cmd    *exec.Cmd
	stderr outputHead
	exited chan struct{}
}

// Start starts a worker. If file is not nil, the worker can read it; see [File]. If the caller that ctx names (see
// [WithCaller]) has other running jobs, the worker gets a lower priority.
func Start(ctx context.Context, k Kind, file *os.File) (*Process, error) {
	if !isEnabled.Load() {
		return nil, errors.New("no worker can be started: the program does not call worker.Main first in main")
	}
	serverConn, workerSocket, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("open a socket to a worker: %w", err)
	}
	defer workerSocket.Close() //nolint:errcheck // the worker has its own copy of the descriptor
	path, err := executable()
	if err != nil {
		return nil, err
	}
	p := &Process{Conn: newConn(serverConn), cmd: exec.Command(path), exited: make(chan struct{})}
	p.cmd.Args = []string{filepath.Base(os.Args[0]), marker, string(k)}
	isLow := HasOtherJobs(ctx)
	if isLow {
		p.cmd.Args = append(p.cmd.Args, lowPriorityMarker)
	}
	p.cmd.ExtraFiles = []*os.File{workerSocket}
	if file != nil {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, file)
	}
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = []string{} // the environment may contain secrets
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that Ctrl-C in a terminal interrupts only the server
	if err := p.cmd.Start(); err != nil {
		_ = serverConn.Close() // it was not used
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	if isLow {
		// This sets the priority of only the first thread, but the threads that it starts inherit the priority.
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, p.cmd.Process.Pid, lowPriority) // fails only if the worker has already ended
	}
	go func() {
		_ = p.cmd.Wait() // ExplainError uses the ProcessState that Wait sets
		close(p.exited)
	}()
	return p, nil
}

// IsAlive reports whether the process is running.
func (p *Process) IsAlive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Kill kills the worker.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails if the worker has already ended
	_ = p.c.Close()          // the connection is of no use without the worker
}

// KillWith kills the worker when ctx is done, unless stop is called before.
func (p *Process) KillWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, p.Kill)
}

// Close kills the worker and waits until it has ended.
func (p *Process) Close() {
	p.Kill()
	<-p.exited
}

// memoryPhrases are phrases, in lower case, that a process prints if it cannot allocate memory.
var memoryPhrases = []string{
	"out of memory", "cannot allocate", "failed to allocate", "failed to reserve", "cannot map pages", "cannot remap pages", "bad_alloc",
	"failed to create new os thread", "resource temporarily unavailable",
	"\nruntime.(*spanqueue).", // if Go 1.26's collector cannot allocate memory for its queue, it crashes by reading address 0
}

// ExplainError returns a DeathError if err means that the connection to the worker broke. Otherwise, it returns err.
// The DeathError does not quote the worker's output, which users must not see.
func (p *Process) ExplainError(err error) error {
	if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*net.OpError)) {
		return err
	}
	p.Close()
	output := strings.ToLower(p.stderr.String())
	if slices.ContainsFunc(memoryPhrases, func(phrase string) bool { return strings.Contains(output, phrase) }) {
		return &DeathError{Memory: true}
	}
	return &DeathError{State: p.cmd.ProcessState.String()}
}

// lowPriority is the niceness of workers that run for a long time or whose caller has other running workers.
const lowPriority = 15

// LowerPriorityLater lowers the priority of this process after it has computed for a while, so that short jobs do not
// wait for long ones. stop prevents the change or, if the system permits it (for example, to root), restores the
// priority.
func LowerPriorityLater() (stop func()) {
	const gracePeriod, interval = 100 * time.Millisecond, 20 * time.Millisecond
	if hasLowPriority.Load() {
		return func() {}
	}
	initial := niceness()
	start, stopped, exited := processorTime(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for processorTime()-start < gracePeriod {
			select {
			case <-stopped:
				return
			case <-tick.C:
			}
		}
		hasLowPriority.Store(setPriority(max(initial, lowPriority)))
	}()
	return sync.OnceFunc(func() {
		close(stopped)
		<-exited
		if hasLowPriority.Load() {
			hasLowPriority.Store(!setPriority(initial))
		}
	})
}

func niceness() int {
	n, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	if runtime.GOOS == "linux" { // the system call returns 20 minus the niceness
		return 20 - n
	}
	return n
}

func setPriority(niceness int) bool {
	return syscall.Setpriority(syscall.PRIO_PGRP, 0, niceness) == nil // PRIO_PROCESS would change only one thread
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(pair[0])
		syscall.CloseOnExec(pair[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	serverFile, workerFile := os.NewFile(uintptr(pair[0]), "worker"), os.NewFile(uintptr(pair[1]), "server")
	defer serverFile.Close() //nolint:errcheck // FileConn duplicates the descriptor, so this one is not needed
	c, err := net.FileConn(serverFile)
	if err != nil {
		return nil, nil, errors.Join(err, workerFile.Close())
	}
	return c, workerFile, nil
}

func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // refers to the running program even after the file at its path was replaced
	}
	return os.Executable()
}

// outputHead keeps the first bytes that a process writes to standard error.
type outputHead struct {
	mu   sync.Mutex
	text strings.Builder
}

func (e *outputHead) Write(b []byte) (int, error) {
	const maxBytes = 4 << 10
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text.Write(b[:min(len(b), maxBytes-min(maxBytes, e.text.Len()))])
	return len(b), nil
}

func (e *outputHead) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// File returns, in a worker, the file that the server passed to Start.
func File() *os.File { return os.NewFile(fileFD, "file") }

func serve(job func(*Conn) error) error {
	killFirst()
	s := os.NewFile(socketFD, "server")
	c, err := net.FileConn(s)
	if err != nil {
		return err
	}
	_ = s.Close() // FileConn duplicates the descriptor, so this one is not needed
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(writeBuffer) // the system may allow less
	}
	conn := newConn(c)
	conn.frames = make(chan frame)
	go func() { // reads even while the job runs, so that the worker exits when the server dies
		for {
			f, err := conn.readFrame()
			if err != nil {
				os.Exit(1)
			}
			conn.frames <- f
		}
	}()
	return job(conn)
}

// markCloseOnExec prevents workers from inheriting the file descriptors that this process inherited.
func markCloseOnExec() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // assume that this process inherited only the three standard descriptors
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
