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

	"github.com/go-partd/partd/tables/pull"
)

// A shared node does what those who are connected ask, says why it cannot, and ends with
// the last of them, after it is closed.
func TestPullShare(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "a%41*") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	out, says := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(t.Context(), []string{"pull", "serve", "--dir", at("node"), "--listen", "localhost:0", "--share", at("s")}, &app{in: os.Stdin, out: says, err: io.Discard})
		_ = says.Close()
	}()
	ready, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(ready, "ready ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", ready, err)
	}
	connect := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("unix", at("s"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		r := bufio.NewReader(c)
		if said, err := r.ReadString('\n'); err != nil || said != url {
			t.Fatalf("%q and not %q, %v", said, url, err)
		}
		return c, r
	}
	call := func(args ...string) (wrote, failed string) {
		c, r := connect()
		if err := os.WriteFile(at("out"), []byte(strings.Repeat("of a call that was asked again\n", 9)), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(c).Encode(pullCall{Args: args, Out: at("out")}); err != nil {
			t.Fatal(err)
		}
		if err := json.NewDecoder(r).Decode(&failed); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(at("out"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b), failed
	}
	held, r := connect()
	name := "shared " + dir // the machine's registry may know those of others
	rows := "time,a\n2026-01-01,1\n"
	if err := os.WriteFile(at("a.csv"), []byte(rows), 0o666); err != nil {
		t.Fatal(err)
	}
	if wrote, failed := call("save", "--", name, at("a.csv")); wrote != "" || failed != "" {
		t.Errorf("%q, %q", wrote, failed)
	}
	if wrote, failed := call("get", "--", name); wrote != rows || failed != "" {
		t.Errorf("%q, %q", wrote, failed)
	}
	if _, failed := call("get", "--", name+" of nobody"); !strings.Contains(failed, "not found") {
		t.Errorf("%q", failed)
	}
	if _, failed := call("get", "--nonsense"); !strings.Contains(failed, "nonsense") {
		t.Errorf("%q", failed)
	}
	given, _ := connect()
	if _, err := fmt.Fprint(given, "{"); err != nil { // and goes away
		t.Fatal(err)
	}
	if err := given.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-ended:
		t.Fatalf("it ended with %d while it was used", code)
	case <-time.After(100 * time.Millisecond):
	}
	if err := held.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("%v", err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(at("s")); err == nil {
		t.Error("the socket is still there")
	}
}

// nowhere is a registry that is not there, which takes nobody's time.
var nowhere = pull.Options{Registry: "nats://localhost:1"}

// A call that the node's end interrupts has no answer: nobody knows what became of it.
func TestPullShareInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := pull.Open(t.Context(), dir, &nowhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	out := filepath.Join(dir, "out")
	if err := os.WriteFile(out, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	program, c := net.Pipe()
	go func() {
		serveCall(ctx, n, c)
		_ = c.Close()
	}()
	r := bufio.NewReader(program)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(program).Encode(pullCall{Args: []string{"get", "--", "x"}, Out: out}); err != nil {
		t.Fatal(err)
	}
	if said, err := r.ReadString('\n'); err != io.EOF {
		t.Errorf("%q, %v", said, err)
	}
}

// A node that is out of descriptors for a while goes on with what it does.
func TestPullShareOutOfDescriptors(t *testing.T) {
	t.Parallel()
	n, err := pull.Open(t.Context(), t.TempDir(), &nowhere)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	held, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := &outOfDescriptors{Listener: inner}
	l.left.Store(3)
	ended := make(chan error, 1)
	go func() { ended <- sharePull(t.Context(), n, l) }()
	if _, err := bufio.NewReader(held).ReadString('\n'); err != nil || l.left.Load() >= 0 {
		t.Errorf("%v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type outOfDescriptors struct {
	net.Listener
	left atomic.Int32
}

func (l *outOfDescriptors) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}
