package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/pull"
)

// TestPullShare checks that a shared node executes the calls of connected programs, and reports failures. It
// must end after the last program disconnects, and close the connections afterwards.
func TestPullShare(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "a%41*") // the path of a socket must be short
	must.Do(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	inDir := func(name string) string { return filepath.Join(dir, name) }
	out, stdout := io.Pipe()
	exitCode := make(chan int, 1)
	go func() {
		exitCode <- runCommand(t.Context(), []string{"pull", "serve", "--dir", inDir("node"), "--listen", "localhost:0", "--share", inDir("s")}, &app{in: os.Stdin, out: stdout, errOut: io.Discard})
		_ = stdout.Close()
	}()
	ready, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(ready, "ready ")
	if err != nil || !ok {
		t.Fatalf("pull serve printed %q, error %v, want ready and a URL", ready, err)
	}
	connect := func() (net.Conn, *bufio.Reader) {
		c := must.Get(net.Dial("unix", inDir("s")))(t)
		t.Cleanup(func() { _ = c.Close() })
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || line != url {
			t.Fatalf("first line = %q, want %q, error %v", line, url, err)
		}
		return c, r
	}
	call := func(args ...string) (output, failure string) {
		c, r := connect()
		must.Do(t, os.WriteFile(inDir("out"), []byte(strings.Repeat("old output\n", 9)), 0o666))
		must.Do(t, json.NewEncoder(c).Encode(pullCall{Args: args, Out: inDir("out")}))
		must.Do(t, json.NewDecoder(r).Decode(&failure))
		return string(must.Get(os.ReadFile(inDir("out")))(t)), failure
	}
	keptOpen, r := connect()
	name := "shared " + dir // the machine's registry may know other tables
	rows := "time,a\n2026-01-01,1\n"
	must.Do(t, os.WriteFile(inDir("a.csv"), []byte(rows), 0o666))
	if output, errText := call("save", "--", name, inDir("a.csv")); output != "" || errText != "" {
		t.Errorf("save: output %q, error %q, want none", output, errText)
	}
	if output, errText := call("get", "--", name); output != rows || errText != "" {
		t.Errorf("get: output %q, error %q, want %q", output, errText, rows)
	}
	if _, errText := call("get", "--", name+" missing"); !strings.Contains(errText, "does not exist") {
		t.Errorf("get of a missing table: error %q, want not found", errText)
	}
	if _, errText := call("get", "--nonsense"); !strings.Contains(errText, "nonsense") {
		t.Errorf("get with an unknown flag: error %q, want an error that names the flag", errText)
	}
	abandoned, _ := connect()
	must.Get(fmt.Fprint(abandoned, "{"))(t) // an incomplete call; then the program disconnects
	must.Do(t, abandoned.Close())
	select {
	case code := <-exitCode:
		t.Fatalf("the node exited with %d while it was in use", code)
	case <-time.After(100 * time.Millisecond):
	}
	must.Do(t, keptOpen.(*net.UnixConn).CloseWrite())
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("read after the node ended: error %v, want io.EOF", err)
	}
	if code := <-exitCode; code != 0 {
		t.Errorf("the node exited with %d, want 0", code)
	}
	if _, err := os.Stat(inDir("s")); err == nil {
		t.Error("the socket still exists")
	}
}

// unreachable contains the URL of a registry that does not exist, so that connecting fails fast.
var unreachable = pull.Options{Registry: "nats://localhost:1"}

// TestPullShareInterrupted checks that a call receives no answer if the node stops during the call, because the
// outcome is unknown.
func TestPullShareInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := must.Get(pull.Open(t.Context(), dir, &unreachable))(t)
	t.Cleanup(func() { _ = n.Close() })
	out := filepath.Join(dir, "out")
	must.Do(t, os.WriteFile(out, nil, 0o666))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	program, c := net.Pipe()
	go func() {
		serveCall(ctx, n, c, runCommand)
		_ = c.Close()
	}()
	r := bufio.NewReader(program)
	must.Get(r.ReadString('\n'))(t)
	must.Do(t, json.NewEncoder(program).Encode(pullCall{Args: []string{"get", "--", "x"}, Out: out}))
	if answer, err := r.ReadString('\n'); err != io.EOF {
		t.Errorf("got answer %q, error %v, want io.EOF", answer, err)
	}
}

// TestPullShareOutOfDescriptors checks that a node that temporarily runs out of file descriptors works
// afterwards.
func TestPullShareOutOfDescriptors(t *testing.T) {
	t.Parallel()
	n := must.Get(pull.Open(t.Context(), t.TempDir(), &unreachable))(t)
	inner := must.Get(net.Listen("tcp", "localhost:0"))(t)
	conn := must.Get(net.Dial("tcp", inner.Addr().String()))(t)
	l := &outOfDescriptors{Listener: inner}
	l.remaining.Store(3)
	done := make(chan error, 1)
	go func() {
		done <- sharePull(t.Context(), n, &sharing{listener: l, connections: map[net.Conn]bool{}}, runCommand)
	}()
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil || l.remaining.Load() >= 0 {
		t.Errorf("read from the node after failed accepts: error %v; %d of the failures remain", err, l.remaining.Load())
	}
	must.Do(t, conn.Close())
	must.Do(t, <-done)
}

// outOfDescriptors is a listener whose first calls to Accept fail.
type outOfDescriptors struct {
	net.Listener
	remaining atomic.Int32 // number of calls that will fail
}

func (l *outOfDescriptors) Accept() (net.Conn, error) {
	if l.remaining.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestPullBackupsMissingDirectory checks that reading backups fails if their location does not exist, and
// does not create it.
func TestPullBackupsMissingDirectory(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "typo")
	var out, errs strings.Builder
	if code := runCommand(t.Context(), []string{"pull", "backups", "--from", missing}, &app{in: os.Stdin, out: &out, errOut: &errs}); code == 0 || !strings.Contains(errs.String(), missing) {
		t.Errorf("pull backups: exit code %d, stdout %q, stderr %q, want an error with the missing path", code, out.String(), errs.String())
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("pull backups created the missing source directory")
	}
}
