// Package procs is for tests and benchmarks that start other processes. It runs and kills the test binary itself in one
// of its roles, servers, an S3 gateway, and PostgreSQL. It finds the peers: programs in Python, JavaScript and Java
// with which partd is compared or tested, and which the script .ci/peers installs.
package procs

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// roleEnv is the environment variable that makes a test binary play a role.
const roleEnv = "PARTD_TEST_ROLE"

// Roles maps the names of the roles that a test binary can play to their main functions. The
// functions get the arguments passed to Command. If a function returns nil, the process exits with
// code 0. Otherwise, the process prints the error and exits with code 1.
type Roles map[string]func(args []string) error

// Program turns a program's main function, which returns an exit code, into a role.
func Program(run func(args []string) int) func([]string) error {
	return func(args []string) error {
		os.Exit(run(args))
		return nil
	}
}

// Play plays the role for which Command or a name made by Link started this process, and exits. Otherwise, it returns.
// TestMain must call it.
func (r Roles) Play() {
	name := filepath.Base(os.Args[0])
	if r[name] == nil {
		name = os.Getenv(roleEnv)
	}
	if name == "" {
		return
	}
	err := fmt.Errorf("%s=%s: there is no such role", roleEnv, name)
	if run := r[name]; run != nil {
		err = run(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Main is the body of a TestMain that only adds roles to the tests.
func (r Roles) Main(m *testing.M) {
	r.Play()
	AllowParallel()
	os.Exit(m.Run())
}

// AllowParallel lets up to 8 tests that call t.Parallel run at the same time, because such tests wait
// for processes, disks and timers. A TestMain calls it. The flag -parallel overrides the number.
func AllowParallel() {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
}

// Command returns a command that runs this test binary in a role.
func Command(role string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// Link makes a symbolic link to this test binary in dir for each role, so that scripts can run the roles by their
// names.
func Link(t testing.TB, dir string, roles ...string) {
	t.Helper()
	program, err := os.Executable()
	for _, role := range roles {
		err = errors.Join(err, os.Symlink(program, filepath.Join(dir, role)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// KillSelf ends this process as kill -9 does.
func KillSelf() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {}
}

// Kills returns how often a test kills processes: the value of PARTD_KILLS, or n.
func Kills(t testing.TB, n int) int {
	t.Helper()
	return Number(t, "PARTD_KILLS", n)
}

// Rand returns a random generator whose seed it logs.
func Rand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Process is a running process. Its methods may be called concurrently only if they say so.
type Process struct {
	Cmd    *exec.Cmd
	In     io.WriteCloser // standard input
	out    *bufio.Reader
	stderr strings.Builder // complete after Wait
	wait   func() error
}

// Start starts cmd, and kills it at the end of the test.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd}
	p.wait = sync.OnceValue(cmd.Wait)
	if cmd.Stderr == nil {
		cmd.Stderr = &p.stderr
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		p.In, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	t.Cleanup(p.Kill)
	return p
}

// Line reads a line of the process's output, without its line break. ok is false if the process has ended. An
// incomplete line, which a killed process may leave, is not returned.
func (p *Process) Line() (line string, ok bool) {
	line, err := p.out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil
}

// Lines reads the lines of the process's output until it ends.
func (p *Process) Lines() iter.Seq[string] {
	return func(yield func(string) bool) {
		for line, ok := p.Line(); ok && yield(line); line, ok = p.Line() {
		}
	}
}

// WaitFor reads lines until the process prints want, and ends the test if it does not.
func (p *Process) WaitFor(t testing.TB, want string) {
	t.Helper()
	for line := range p.Lines() {
		if line == want {
			return
		}
	}
	t.Fatalf("the process ended before it printed %q: %v", want, p.Wait())
}

// Ask sends a line to the process and reads its answer. ok is false if the process has ended.
func (p *Process) Ask(line string) (answer string, ok bool) {
	if _, err := io.WriteString(p.In, line+"\n"); err != nil {
		return "", false
	}
	return p.Line()
}

// KillAfter kills the process after a time, but does not wait for it. Output that it has written can still be read. The
// caller may stop the timer. KillAfter may be called concurrently with the other methods.
func (p *Process) KillAfter(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() { _ = p.Cmd.Process.Kill() }) // fails if the process has ended
}

// Kill kills the process, and waits until it has ended. The rest of its output is lost.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // fails if the process has ended
	_ = p.wait()
}

// Wait waits until the process has ended. Its output must have been read. The error has the process's standard error
// output.
func (p *Process) Wait() error {
	err := p.wait()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, p.Stderr())
	}
	return err
}

// WasKilled reports whether a signal ended the process, which must have ended.
func (p *Process) WasKilled() bool { return p.Cmd.ProcessState.ExitCode() < 0 }

// WaitKilled waits until the process has ended, and ends the test unless it was killed and printed no error.
func (p *Process) WaitKilled(t testing.TB) {
	t.Helper()
	if err := p.Wait(); !p.WasKilled() || p.Stderr() != "" {
		t.Fatalf("the process ended before it was killed, or printed an error: %v", err)
	}
}

// Stderr returns the process's standard error output, unless the command has its own writer for it.
func (p *Process) Stderr() string { return p.stderr.String() }
