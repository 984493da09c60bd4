package servercli_test

import (
	"bufio"
	"context"
	"encoding/json"
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

// TestPythonClient runs a script with Python partd's client. TestGoClientOfPythonServer runs the same script with
// Python partd's server, so that it checks the script too.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	py := requirePython(t, "partd, zmq")
	for name, server := range map[string]func(t *testing.T) *procs.Server{
		"default": func(t *testing.T) *procs.Server { return start(t, "--store", "log:"+t.TempDir()+"/data") },
		"buffer": func(t *testing.T) *procs.Server {
			return start(t, "--store", "buffer+file:"+t.TempDir()+"/data?memory=64MiB")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := server(t)
			out := runPython(t, py, "testdata/client.py", p.URL())
			var seconds map[string]float64
			if err := json.Unmarshal([]byte(out), &seconds); err != nil {
				t.Fatalf("the script's output %q is not JSON: %v", out, err)
			}
			t.Logf("seconds: %v", seconds)
			stop(t, p)
		})
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

// TestLibzmqPeer runs two clients that use libzmq. The first pipelines requests, sends invalid ones and
// expects answers to heartbeats; the second uses the Go client's protocol.
func TestLibzmqPeer(t *testing.T) {
	py := requirePython(t, "zmq")
	for _, script := range []string{"testdata/peer.py", "testdata/go_peer.py"} {
		for _, store := range []string{"mem:", "file:", "log:", "buffer+file:"} {
			if script == "testdata/peer.py" && store != "log:" { // one store suffices, because this script does not depend on it
				continue
			}
			t.Run(script+"/"+store, func(t *testing.T) {
				t.Parallel()
				url := store
				if store != "mem:" {
					url += t.TempDir() + "/data"
				}
				p := start(t, "--store", url)
				if out := runPython(t, py, script, p.URL()); out != "done\n" {
					t.Fatalf("the script printed %q, want done", out)
				}
				stop(t, p)
			})
		}
	}
}

// TestPythonClientIsRefused checks that a rejected request makes Python partd's client raise an error
// once, at its next call. After that, the client must work again. Other clients must not be affected.
func TestPythonClientIsRefused(t *testing.T) {
	t.Parallel()
	py := requirePython(t, "partd, zmq")
	p := start(t, "--store", "mem:", "--max-message", "1MiB")
	const want = `a key too long
a message over the limit
many frames over the limit
an iset over the limit
close
a failed get ends by the timeout
`
	if out := runPython(t, py, "testdata/refused.py", p.URL()); out != want {
		t.Fatalf("the script printed %q, want %q", out, want)
	}
	stop(t, p)
}

// TestPythonClientClosesServer checks that Python partd's client can stop a server with --allow-close.
func TestPythonClientClosesServer(t *testing.T) {
	t.Parallel()
	py := requirePython(t, "partd, zmq")
	dir := t.TempDir() + "/data"
	const script = `
import sys, partd
c = partd.Client(sys.argv[1])
c.append({"k": b"v"})
c.get("k")
c.close_server()
c.close()
`
	p := start(t, "--store", "file:"+dir, "--allow-close")
	cmd := exec.Command(py, "-c", script, p.URL())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the Python script failed: %v\n%s", err, out)
	}
	if err := p.Wait(30 * time.Second); err != nil {
		t.Fatalf("the server did not end cleanly: %v\nserver log:\n%s", err, p.Stderr())
	}
	// Python reads the store after its server has ended.
	out, err := exec.Command(py, "-c", `import sys, partd; print(partd.File(sys.argv[1]).get("k"))`, dir).CombinedOutput()
	if err != nil || string(out) != "b'v'\n" {
		t.Fatalf("Python read %s (error %v), want b'v'", out, err)
	}
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
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.Pid()))
		if err != nil || strings.Contains(string(stat), ") T ") {
			break // the server has stopped, or this system does not show its state
		}
		if time.Now().After(end) {
			t.Fatal("the server is still running 10 s after SIGSTOP")
		}
	}
	nextStep()
	time.Sleep(500 * time.Millisecond) // wait until the client has sent the request
	server.Kill()
	startAgain()
	expectLine("no answer")
	must.Do(t, client.Wait())
}
