package main

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

	"github.com/go-partd/partd/internal/testutil/procs"
)

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
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import partd, zmq").Run() != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal("PARTD_REQUIRE_ALL is set, and this test needs Python with partd and zmq")
		}
		t.Skip("needs Python with partd and zmq")
	}
	store, listen := "log:"+t.TempDir()+"/data", "tcp://127.0.0.1:0"
	start := func() *procs.Server {
		p, err := procs.StartServer(t.Context(), child("server", "--listen", listen, "--store", store), 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		listen = p.URL()
		return p
	}
	server := start()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // Python's client may wait forever
	defer cancel()
	client := exec.CommandContext(ctx, python, "-c", restartScript, listen)
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	client.Stderr = os.Stderr
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expectLine := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the client printed %q, want %q", lines.Text(), want)
		}
	}
	nextStep := func() {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	expectLine("before")
	server.Kill()
	nextStep()
	expectLine("down")
	server = start()
	nextStep()
	expectLine("123")
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
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
	start()
	expectLine("no answer")
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

// script returns the README's commands, adapted to this test's programs and files. The server
// starts with a delay, as on a busy machine, on a free port.
func script(t *testing.T, files []string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```sh\n")
	text, _, _ = strings.Cut(text, "```")
	example := childEnv + "=example " + os.Args[0]
	server := ` --server "$(sed -n 's/^ready //p' words-ready)"`
	pairs := []string{
		"partd-server --store log:words-data >words-ready &",
		"(sleep 0.1; exec env " + childEnv + "=server " + os.Args[0] + " --listen tcp://127.0.0.1:0 --store log:words-data >words-ready) &",
		"go run ./examples/wordcount reduce", example + " reduce" + server,
		"go run ./examples/wordcount begin", example + " begin" + server,
		"go run ./examples/wordcount map", example + " map" + server,
		"python3 examples/wordcount/worker.py tcp://127.0.0.1:7077", example + " map" + server,
	}
	for i, file := range files {
		pairs = append(pairs, " "+string(rune('a'+i))+".txt", " "+file)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the README does not contain %q", pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// TestReadme runs the README's commands, which must fail if a worker fails or if they are run twice.
func TestReadme(t *testing.T) {
	t.Parallel()
	files, _ := writeTexts(t, 5)
	run := func(dir string, files []string) (string, error) {
		cmd := exec.Command("sh", "-c", script(t, files))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	dir := t.TempDir()
	if out, err := run(dir, files); err != nil || !strings.Contains(out, "25000 words, ") {
		t.Fatalf("the README's commands: %v\n%s", err, out)
	}
	if out, err := run(dir, files); err == nil || !strings.Contains(out, "the server already has counts") || strings.Contains(out, " words, ") {
		t.Errorf("the second run = %v, want an error about existing counts\n%s", err, out)
	}
	for i := range files {
		missing := append([]string(nil), files...)
		missing[i] = "nofile"
		if out, err := run(t.TempDir(), missing); err == nil || strings.Contains(out, " words, ") {
			t.Errorf("a run with a failing worker = %v, want an error and no total\n%s", err, out)
		}
	}
}
