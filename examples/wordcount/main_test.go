package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// childEnv is the environment variable that makes the test binary run as the server or the example.
const childEnv = "PARTD_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "server":
		os.Exit(servercli.Main(os.Args[1:]))
	default:
		main()
	}
}

// child returns a command that runs the test binary as the server or the example.
func child(label string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+label)
	return cmd
}

// TestConcurrentWorkers checks that workers in Go and Python that count files at the same time produce the correct
// sums.
func TestConcurrentWorkers(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // the system's Python has partd if it is installed
	havePython := exec.Command(python, "-c", "import partd, zmq").Run() == nil
	for _, c := range []struct {
		withPython bool
		servers    int // number of servers that share the keys
	}{{false, 1}, {true, 1}, {false, 3}} {
		withPython := c.withPython
		t.Run(fmt.Sprintf("python=%v servers=%d", withPython, c.servers), func(t *testing.T) {
			if withPython && !havePython {
				if os.Getenv("PARTD_REQUIRE_ALL") != "" {
					t.Fatal("PARTD_REQUIRE_ALL is set, and this test needs Python with partd and zmq")
				}
				t.Skip("needs Python with partd and zmq")
			}
			var servers []*procs.Server
			var addresses []string
			for range c.servers {
				p, err := procs.StartServer(t.Context(), child("server", "--listen", "tcp://127.0.0.1:0", "--store", "log:"+t.TempDir()+"/data"), 1)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(p.Kill)
				_, address := p.Address()
				servers, addresses = append(servers, p), append(addresses, address)
			}
			url := "tcp://" + strings.Join(addresses, ",")
			files, want := writeTexts(t, 12)
			var workers []*exec.Cmd
			var output bytes.Buffer
			for i := range 4 {
				taskFiles := files[3*i : 3*i+3]
				cmd := child("example", append([]string{"map", "--server", url}, taskFiles...)...)
				if withPython && i%2 == 1 {
					cmd = exec.Command(python, append([]string{"worker.py", url}, taskFiles...)...)
				}
				cmd.Stderr = os.Stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				workers = append(workers, cmd)
			}
			var errs error
			for _, w := range workers {
				errs = errors.Join(errs, w.Wait())
			}
			if errs != nil {
				t.Fatal(errs)
			}
			reduce := child("example", "reduce", "--server", url, "--top", "1000000")
			reduce.Stdout, reduce.Stderr = &output, os.Stderr
			if err := reduce.Run(); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			last := ""
			for line := range strings.Lines(output.String()) {
				var n int
				var word string
				if last = line; strings.Contains(line, " words, ") {
					continue
				}
				if _, err := fmt.Sscanf(line, "%d %s\n", &n, &word); err != nil {
					t.Fatalf("reduce printed %q, want a number and a word", line)
				}
				got[word] = n
			}
			total := 0
			for word, n := range want {
				total += n
				if got[word] != n {
					t.Fatalf("%q was counted %d times, want %d", word, got[word], n)
				}
			}
			if want := fmt.Sprintf("%d words, %d different\n", total, len(want)); last != want {
				t.Errorf("reduce ended with %q, want %q", last, want)
			}
			for _, p := range servers {
				if err := p.Stop(time.Minute); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// writeTexts writes files of made-up words, and returns their counts.
func writeTexts(t *testing.T, n int) (files []string, counts map[string]int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	counts = map[string]int{}
	for i := range n {
		var text strings.Builder
		for j := range 5000 {
			word := fmt.Sprintf("Word%d", int(rnd.ExpFloat64()*300))
			counts[strings.ToLower(word)]++
			text.WriteString(word)
			text.WriteString([]string{" ", ", ", "\n", " é— "}[(i+j)%4])
		}
		name := filepath.Join(t.TempDir(), fmt.Sprintf("text%d.txt", i))
		if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files, counts
}
