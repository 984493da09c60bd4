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
	"strings"
	"sync"
	"syscall"
	"time"
)

// Supported reports whether workers can be started here.
const Supported = true

// Descriptors of a worker, in addition to its standard error.
const (
	socketFD = 3
	fileFD   = 4

	writeBuffer = 4 << 20 // size of the socket's buffer, which holds a batch while the worker produces the next
)

// Process is the server's side of a worker.
type Process struct {
	*Conn
	cmd    *exec.Cmd
	stderr outputHead
	exited chan struct{}
}

// Start starts a worker. If file is not nil, the worker gets it from [File]. If the context's caller has
// other running workers, this worker starts with a lower priority.
func Start(ctx context.Context, k Kind, file *os.File) (*Process, error) {
	if !isEnabled.Load() {
		return nil, errors.New("no worker can be started: the program does not call worker.Main first in main")
	}
	serverConn, workerSocket, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("open a socket to a worker: %w", err)
	}
	defer workerSocket.Close() //nolint:errcheck // the worker's end
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
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal must reach only the server
	if err := p.cmd.Start(); err != nil {
		_ = serverConn.Close()
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	if isLow {
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, p.cmd.Process.Pid, lowPriority) // before the worker starts its threads
	}
	go func() {
		_ = p.cmd.Wait() // ExplainError reports how the process ended
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
	_ = p.cmd.Process.Kill() // the worker may already have ended
	_ = p.c.Close()
}

// KillWith kills the worker when ctx is done, unless the returned function is called first.
func (p *Process) KillWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, p.Kill)
}

// Close kills the worker, and waits until it has ended.
func (p *Process) Close() {
	p.Kill()
	<-p.exited
}

// ExplainError explains a failure of the connection by how the process ended. It does not quote the process's
// output, which users must not see. Other errors, such as those that the worker sent, are returned unchanged.
func (p *Process) ExplainError(err error) error {
	if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*net.OpError)) {
		return err
	}
	p.Close()
	output := strings.ToLower(p.stderr.String())
	for _, phrase := range []string{"out of memory", "cannot allocate", "bad_alloc", "failed to create new os thread", "resource temporarily unavailable"} {
		if strings.Contains(output, phrase) {
			return &DeathError{Memory: true}
		}
	}
	return &DeathError{State: p.cmd.ProcessState.String()}
}

// lowPriority is the niceness of workers that run for a long time, or whose caller has other running workers.
const lowPriority = 15

// LowerPriorityLater lowers the priority of this process after it has computed for a while, so that short
// jobs do not wait for long jobs. If stop is called before then, the priority stays the same. Otherwise, stop
// restores the priority if the system permits it, as it does for root and with RLIMIT_NICE.
func LowerPriorityLater() (stop func()) {
	const gracePeriod, interval = 100 * time.Millisecond, 20 * time.Millisecond
	start, stopped, exited := processorTime(), make(chan struct{}), make(chan struct{})
	if hasLowPriority.Load() {
		return func() {}
	}
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
		hasLowPriority.Store(setPriority(lowPriority))
	}()
	return sync.OnceFunc(func() {
		close(stopped)
		if <-exited; hasLowPriority.Load() {
			hasLowPriority.Store(!setPriority(0))
		}
	})
}

// setPriority sets the niceness of this process, and reports whether that succeeded.
func setPriority(niceness int) bool {
	return syscall.Setpriority(syscall.PRIO_PGRP, 0, niceness) == nil // the process group, because PRIO_PROCESS changes only one thread
}

// processorTime returns the processor time of this process.
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
	defer serverFile.Close() //nolint:errcheck // FileConn uses a duplicate of the descriptor
	c, err := net.FileConn(serverFile)
	if err != nil {
		return nil, nil, errors.Join(err, workerFile.Close())
	}
	return c, workerFile, nil
}

func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // also valid after the file was replaced
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

// File returns the file that was passed to Start.
func File() *os.File { return os.NewFile(fileFD, "file") }

// serve runs a worker's job.
func serve(job func(*Conn) error) error {
	killFirst()
	s := os.NewFile(socketFD, "server")
	c, err := net.FileConn(s)
	if err != nil {
		return err
	}
	_ = s.Close() // FileConn has a duplicate
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(writeBuffer) // the system may allow less
	}
	conn := newConn(c)
	conn.frames = make(chan frame)
	go func() { // exit when the server dies, even while the job runs
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

// markCloseOnExec prevents workers from inheriting descriptors that this process inherited.
func markCloseOnExec() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // only the three standard descriptors exist
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
