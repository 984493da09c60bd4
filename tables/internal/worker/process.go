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

// The descriptors that a worker is started with, beside its standard error.
const (
	socketAt = 3
	fileAt   = 4

	writeBuffer = 4 << 20 // bytes: a batch on its way, while the next one is made
)

// Process is a worker as the server has it.
type Process struct {
	*Conn
	cmd    *exec.Cmd
	said   ends
	exited chan struct{}
}

// Start starts a worker, with a file if it is to read one, which the worker has
// from [File]. Where the context's caller has others, it goes behind those of others
// from its beginning, for which it needs the processor, too.
func Start(ctx context.Context, k Kind, file *os.File) (*Process, error) {
	if !hooked.Load() {
		return nil, errors.New("no process can be started: the program does not call worker.Main first in main")
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("a socket to a process of its own: %w", err)
	}
	defer theirs.Close() //nolint:errcheck // it is the worker's
	path, err := executable()
	if err != nil {
		return nil, err
	}
	p := &Process{Conn: newConn(ours), cmd: exec.Command(path), exited: make(chan struct{})}
	p.cmd.Args = []string{filepath.Base(os.Args[0]), marker, string(k)}
	last := HasOthers(ctx)
	if last {
		p.cmd.Args = append(p.cmd.Args, lastMarker)
	}
	p.cmd.ExtraFiles = []*os.File{theirs}
	if file != nil {
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, file)
	}
	p.cmd.Stderr = &p.said
	p.cmd.Env = []string{} // which may hold secrets
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+v)
		}
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is the server's
	if err := p.cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("a process of its own: %w", err)
	}
	if last {
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, p.cmd.Process.Pid, behind) // its threads are yet to come
	}
	go func() {
		_ = p.cmd.Wait() // Died tells how it ended
		close(p.exited)
	}()
	return p, nil
}

// Lives reports whether it has not ended.
func (p *Process) Lives() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Kill ends the worker, whatever it does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // or it has ended
	_ = p.c.Close()
}

// KillWith kills it when a context ends, until the function it returns is called.
func (p *Process) KillWith(ctx context.Context) (end func() bool) {
	return context.AfterFunc(ctx, p.Kill)
}

// Close kills it, and waits until nothing is left of it.
func (p *Process) Close() {
	p.Kill()
	<-p.exited
}

// Died is what a failure of the connection means: an error of the other end as it
// is, else that the process ended. What it says is not for strangers.
func (p *Process) Died(err error) error {
	if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*net.OpError)) {
		return err
	}
	p.Close()
	said := strings.ToLower(p.said.String())
	for _, sign := range []string{"out of memory", "cannot allocate", "bad_alloc", "failed to create new os thread", "resource temporarily unavailable"} {
		if strings.Contains(said, sign) {
			return &DeathError{Memory: true}
		}
	}
	return &DeathError{State: p.cmd.ProcessState.String()}
}

// behind is how much later than others a process with much to do gets the processor.
const behind = 15

// Modest makes this process go behind others once it has computed for a while, until
// the function that it returns is called: who asks for little does not wait for those
// who ask for much. There is no way back.
func Modest() (stop func()) {
	const free, look = 100 * time.Millisecond, 20 * time.Millisecond
	began, ended := computed(), make(chan struct{})
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		for computed()-began < free {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
		if syscall.Setpriority(syscall.PRIO_PGRP, 0, behind) == nil { // of all threads
			isBehind.Store(true)
		}
	}()
	return sync.OnceFunc(func() { close(ended) })
}

// computed is how long this process has used processors.
func computed() time.Duration {
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
	ours, theirs := os.NewFile(uintptr(pair[0]), "worker"), os.NewFile(uintptr(pair[1]), "server")
	defer ours.Close() //nolint:errcheck // FileConn has another one
	c, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c, theirs, nil
}

func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil // also where the file was replaced
	}
	return os.Executable()
}

// ends keeps the beginning of what a process says at its end.
type ends struct {
	mu   sync.Mutex
	text strings.Builder
}

func (e *ends) Write(b []byte) (int, error) {
	const most = 4 << 10
	e.mu.Lock()
	defer e.mu.Unlock()
	e.text.Write(b[:min(len(b), most-min(most, e.text.Len()))])
	return len(b), nil
}

func (e *ends) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// File is the file that the worker was started with.
func File() *os.File { return os.NewFile(fileAt, "file") }

// serve does a worker's job.
func serve(work func(*Conn) error) error {
	expendable()
	s := os.NewFile(socketAt, "server")
	c, err := net.FileConn(s)
	if err != nil {
		return err
	}
	_ = s.Close() // FileConn has another one
	if u, ok := c.(*net.UnixConn); ok {
		_ = u.SetWriteBuffer(writeBuffer) // or what the system allows
	}
	conn := newConn(c)
	conn.frames = make(chan frame)
	go func() { // it sees the server's end also while the job is at work
		for {
			f, err := conn.read()
			if err != nil {
				os.Exit(1)
			}
			conn.frames <- f
		}
	}()
	return work(conn)
}

// keepDescriptors lets workers have none that this process was started with.
func keepDescriptors() {
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // there are no more than the three
	}
	for _, e := range open {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
