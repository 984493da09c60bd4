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

	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// restarted is a Python client's script while the server is killed and restarted.
const restarted = `
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
c.socket.setsockopt(zmq.RCVTIMEO, 4000)
try:
    print("answer", c.get("a"), flush=True)
except zmq.Again:
    print("no answer", flush=True)
`

// After a server restart, Python's client does what the documents say: it reconnects,
// new appends arrive, and a request in progress stays without an answer.
func TestPythonAfterRestart(t *testing.T) {
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import partd, zmq").Run() != nil {
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal("PARTD_REQUIRE_ALL is set, and this test needs Python with partd and zmq")
		}
		t.Skip("needs Python with partd and zmq")
	}
	store, listen := "log:"+t.TempDir()+"/data", "tcp://127.0.0.1:0"
	start := func() *serverproc.Process {
		p, err := serverproc.Start(t.Context(), child("server", "--listen", listen, "--store", store), 1)
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
	client := exec.CommandContext(ctx, python, "-c", restarted, listen)
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
	says := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
	}
	goOn := func() {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	says("before")
	server.Kill()
	goOn()
	says("down")
	server = start()
	goOn()
	says("123")
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.Pid()))
		if err != nil || strings.Contains(string(stat), ") T ") {
			break // it has stopped, or this system does not show it
		}
		if time.Now().After(end) {
			t.Fatal("the server does not stop")
		}
	}
	goOn()
	time.Sleep(500 * time.Millisecond) // until it has sent the request
	server.Kill()
	start()
	says("no answer")
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

// script returns the README's commands, with this test's programs and files. The server
// starts late, as on a busy machine, on a port that it chooses.
func script(t *testing.T, files []string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```sh\n")
	text, _, _ = strings.Cut(text, "```")
	example := asChild + "=example " + os.Args[0]
	server := ` --server "$(sed -n 's/^ready //p' words-ready)"`
	pairs := []string{
		"partd-server --store log:words-data >words-ready &",
		"(sleep 0.1; exec env " + asChild + "=server " + os.Args[0] + " --listen tcp://127.0.0.1:0 --store log:words-data >words-ready) &",
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
			t.Fatalf("the README has no %q", pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// The README's commands fail if a worker dies, and if they are run twice.
func TestReadme(t *testing.T) {
	files, _ := writeTexts(t, 5)
	run := func(dir string, files []string) (string, error) {
		cmd := exec.Command("sh", "-c", script(t, files))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	dir := t.TempDir()
	if out, err := run(dir, files); err != nil || !strings.Contains(out, "100000 words, ") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run(dir, files); err == nil || !strings.Contains(out, "the server already has counts") || strings.Contains(out, " words, ") {
		t.Errorf("run twice: %v\n%s", err, out)
	}
	for i := range files {
		missing := append([]string(nil), files...)
		missing[i] = "nofile"
		if out, err := run(t.TempDir(), missing); err == nil || strings.Contains(out, " words, ") {
			t.Errorf("with a failed worker: %v\n%s", err, out)
		}
	}
}
