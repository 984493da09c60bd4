package servercli_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

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

// TestPythonClient runs a script with Python partd's client. TestGoClientOfPythonServer runs the same script with Python
// partd's server, so that it checks the script too.
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
	p, err := procs.StartServer(context.Background(), exec.Command(py, "testdata/server.py"), 1)
	must(t, err)
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
