package servercli_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

func runPython(t testing.TB, interpreter, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, interpreter, append([]string{script}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("running %v: %v\noutput:\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// TestPythonScripts runs Python programs that use the server. client.py and refused.py use Python partd's client;
// TestGoClientOfPythonServer runs client.py with Python partd's server, so that it checks the script too. refused.py
// expects that a rejected request raises an error once, at the next call, and affects no other client. The others use
// libzmq: peer.py pipelines requests, sends invalid ones and expects answers to heartbeats, and go_peer.py uses the Go
// client's protocol.
func TestPythonScripts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		script, modules, stores string
		flags                   []string
		want                    string // the beginning of the output
	}{
		{"client.py", "partd, zmq", "log: buffer+file:", nil, "{"},
		{"refused.py", "partd, zmq", "mem:", []string{"--max-message", "1MiB"}, "a key too long\na message over the limit\n" +
			"many frames over the limit\nan iset over the limit\nclose\na failed get ends by the timeout\n"},
		{"peer.py", "zmq", "log:", nil, "done\n"}, // one store suffices, because this script does not depend on it
		{"go_peer.py", "zmq", "mem: file: log: buffer+file:", nil, "done\n"},
	} {
		for store := range strings.FieldsSeq(c.stores) {
			t.Run(c.script+"/"+store, func(t *testing.T) {
				t.Parallel()
				py := requirePython(t, c.modules)
				if store != "mem:" {
					store += t.TempDir() + "/data"
				}
				p := start(t, append(c.flags, "--store", store)...)
				if out := runPython(t, py, "testdata/"+c.script, p.URL()); !strings.HasPrefix(out, c.want) {
					t.Fatalf("the script printed %q, want %q", out, c.want)
				}
				stop(t, p)
			})
		}
	}
}

// TestGoClientOfPythonServer checks that a Go client detects that it is connected to Python partd's
// server, and sends nothing. A hello message would end the server's thread, so that all its clients
// would wait forever.
func TestGoClientOfPythonServer(t *testing.T) {
	t.Parallel()
	py := requirePython(t, "partd, zmq")
	p := must.Get(procs.StartServer(context.Background(), exec.Command(py, "testdata/server.py"), 1))(t)
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := remote.Dial(ctx, p.URL(), nil)
	if err == nil {
		t.Error("Dial of Python's server succeeded, want an error")
		_ = c.Close()
	} else if !strings.Contains(err.Error(), "libzmq") || ctx.Err() != nil {
		t.Errorf("Dial of Python's server = %v; want an error that names libzmq, returned before the timeout", err)
	}
	runPython(t, py, "testdata/client.py", p.URL())
}

// restartScript is a Python client. While the client runs, the test kills and restarts the server.
const restartScript = `
import sys, time, partd, zmq
c = partd.Client(sys.argv[1])
def step(name):
    print(name, flush=True)
    sys.stdin.readline()
c.append({"a": b"1"})
c.get("a")
c.socket.poll(60000) # wait until the acknowledgement for the next call has arrived
step("before")
time.sleep(4) # until libzmq has noticed that the server is gone; messages before that are lost
c.append({"a": b"2"})
step("down")
c.append({"a": b"3"})
step(c.get("a").decode())
c.socket.setsockopt(zmq.RCVTIMEO, 2000)
try:
    print("answer", c.get("a"), flush=True)
except zmq.Again:
    print("no answer", flush=True)
`

// TestPythonAfterRestart checks the documented behavior of Python's client after a server
// restart: it reconnects, new appends arrive, and a request in progress never gets an answer.
func TestPythonAfterRestart(t *testing.T) {
	t.Parallel()
	py := requirePython(t, "partd, zmq")
	store, listen := "log:"+t.TempDir()+"/data", "tcp://127.0.0.1:0"
	startAgain := func() *procs.Server {
		p := startChild(t, "server", "--listen", listen, "--store", store)
		listen = p.URL()
		return p
	}
	server := startAgain()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // Python's client may wait forever
	defer cancel()
	client := exec.CommandContext(ctx, py, "-c", restartScript, listen)
	in := must.Get(client.StdinPipe())(t)
	out := must.Get(client.StdoutPipe())(t)
	client.Stderr = os.Stderr
	must.Do(t, client.Start())
	lines := bufio.NewScanner(out)
	expectLine := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the client printed %q, want %q", lines.Text(), want)
		}
	}
	nextStep := func() {
		must.Get(in.Write([]byte("\n")))(t)
	}
	expectLine("before")
	server.Kill()
	nextStep()
	expectLine("down")
	server = startAgain()
	nextStep()
	expectLine("123")
	must.Do(t, server.Signal(syscall.SIGSTOP))
	must.Eventually(t, time.Minute, "the server runs despite SIGSTOP", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.Pid()))
		return err != nil || strings.Contains(string(stat), ") T ") // or this system does not show its state
	})
	nextStep()
	procs.WaitIdle(t, client.Process.Pid) // the client has sent the request
	server.Kill()
	startAgain()
	expectLine("no answer")
	must.Do(t, client.Wait())
}
