package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
)

// runPython runs a script and returns its output.
func runPython(t testing.TB, interpreter, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, interpreter, append([]string{script}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}

// TestPythonClient runs the same script with partd's own client against this server and
// against partd's own.
func TestPythonClient(t *testing.T) {
	py := requirePython(t, "partd, zmq")
	for name, server := range map[string]func(t *testing.T) *serverproc.Process{
		"default": func(t *testing.T) *serverproc.Process { return start(t, "--store", "log:"+t.TempDir()+"/data") },
		"buffer": func(t *testing.T) *serverproc.Process {
			return start(t, "--store", "buffer+file:"+t.TempDir()+"/data?memory=64MiB")
		},
		"partd's own": func(t *testing.T) *serverproc.Process {
			p, err := serverproc.Start(context.Background(), exec.Command(py, "testdata/server.py"), 1)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Kill)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := server(t)
			out := runPython(t, py, "testdata/client.py", p.URL())
			var seconds map[string]float64
			if err := json.Unmarshal([]byte(out), &seconds); err != nil {
				t.Fatalf("%v: %q", err, out)
			}
			t.Logf("seconds: %v", seconds)
			if name != "partd's own" {
				stop(t, p)
			}
		})
	}
}

// A Go client that is given the address of partd's own server reports that, and sends
// nothing. A hello would end the server's thread, and all its clients would wait forever.
func TestGoClientOfPythonServer(t *testing.T) {
	py := requirePython(t, "partd, zmq")
	p, err := serverproc.Start(context.Background(), exec.Command(py, "testdata/server.py"), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := remote.Dial(ctx, p.URL(), nil)
	if err == nil {
		t.Error("a client could connect to partd's own server")
		_ = c.Close()
	} else if !strings.Contains(err.Error(), "libzmq") || ctx.Err() != nil {
		t.Errorf("the error is %v", err)
	}
	runPython(t, py, "testdata/client.py", p.URL())
}

// Two clients of libzmq: the first pipelines, sends nonsense and expects answers to
// heartbeats; the second speaks the Go client's protocol.
func TestLibzmqPeer(t *testing.T) {
	py := requirePython(t, "zmq")
	for _, script := range []string{"testdata/peer.py", "testdata/go_peer.py"} {
		for _, store := range []string{"mem:", "file:", "log:", "buffer+file:"} {
			if script == "testdata/peer.py" && store != "log:" { // the script tests the wire, not sessions
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
					t.Fatal(out)
				}
				stop(t, p)
			})
		}
	}
}

// A refused request makes partd's client raise an error once, at its next call. It
// works again after that, and other clients are not affected.
func TestPythonClientIsRefused(t *testing.T) {
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
		t.Fatalf("the output is %q", out)
	}
	stop(t, p)
}

// With --allow-close, partd's client ends the server, which keeps its data.
func TestPythonClientClosesServer(t *testing.T) {
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
		t.Fatalf("%v\n%s", err, out)
	}
	if err := p.Wait(30 * time.Second); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	// Python reads the store after its server has ended.
	out, err := exec.Command(py, "-c", `import sys, partd; print(partd.File(sys.argv[1]).get("k"))`, dir).CombinedOutput()
	if err != nil || string(out) != "b'v'\n" {
		t.Fatalf("%v\n%s", err, out)
	}
}
