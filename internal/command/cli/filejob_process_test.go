package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// fileCommands are commands that read files and write one file, with flags that make them use much temporary disk
// space.
var fileCommands = map[string][]string{
	"sort":     {"sort", "--by", "2,3:n"},
	"group":    {"group", "--by", "2", "--agg", "count,list(5)"},
	"distinct": {"distinct"},
	"top":      {"top", "--by", "3:n", "-n", "100000"},

	"top --per":   {"top", "--per", "2", "--by", "3:n", "-n", "100000"},
	"group --top": {"group", "--by", "1", "--agg", "mode(5),median(3),any(4)", "--top", "1000000"},
}

// feed starts a command that reads standard input, with 16 MiB of memory and its own temporary
// directory, and returns a writer to its input.
func feed(t *testing.T, args []string, more ...string) (cmd *exec.Cmd, in io.WriteCloser, dir string, stderr *bytes.Buffer) {
	t.Helper()
	dir = t.TempDir()
	cmd, stderr = programErrs(t, append(append(args, "--format", "csv", "--memory", "16MiB", "--tmp", dir, "-"), more...)...)
	return cmd, must.Get(cmd.StdinPipe())(t), dir, stderr
}

var (
	rowsMu     sync.Mutex
	rowsByKeys = map[int64][]byte{}
)

// manyRows returns a file of 150,000 rows with a number of different keys, which must not be modified.
func manyRows(t *testing.T, keys int64) []byte {
	t.Helper()
	rowsMu.Lock()
	defer rowsMu.Unlock()
	if rowsByKeys[keys] == nil {
		var b bytes.Buffer
		must.Do(t, benchdata.WriteCSV(&b, benchdata.CSVOptions{Rows: 150_000, Keys: keys, Seed: 1}))
		rowsByKeys[keys] = b.Bytes()
	}
	return rowsByKeys[keys]
}

// leftoverFiles returns the names of all files in directories and below.
func leftoverFiles(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		must.Do(t, filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a running process has removed the name
			}
			if path != dir {
				names = append(names, path)
			}
			return err
		}))
	}
	return names
}

// wantNoFiles checks that a command left no files in directories.
func wantNoFiles(t *testing.T, command string, dirs ...string) {
	t.Helper()
	if names := leftoverFiles(t, dirs...); names != nil {
		t.Errorf("%s leaves the files %v", command, names)
	}
}

// interrupt checks that a signal ends a running command within 8 seconds, with code 130 and one line, and that no files
// remain in directories.
func interrupt(t *testing.T, signal os.Signal, command string, cmd *exec.Cmd, stderr *bytes.Buffer, dirs ...string) {
	t.Helper()
	start := time.Now()
	must.Do(t, cmd.Process.Signal(signal))
	if code := exitCode(t, cmd.Wait()); code != cliutil.ExitInterrupted || stderr.String() != "partd: interrupted\n" || time.Since(start) > 8*time.Second {
		t.Errorf("%s: after the signal %v, exit code %d after %v, stderr %q; want code 130 within 8 s", command, signal, code, time.Since(start), stderr)
	}
	wantNoFiles(t, command, dirs...)
}

// TestInterruptFiles checks that after Ctrl-C while the input hangs, each command prints a one-line message and leaves
// no output or temporary data.
func TestInterruptFiles(t *testing.T) {
	t.Parallel()
	for name, args := range fileCommands {
		out := t.TempDir()
		cmd, in, tmp, stderr := feed(t, args, "-o", filepath.Join(out, "out.csv.gz"))
		must.Do(t, cmd.Start())
		must.Get(in.Write(manyRows(t, 1000)))(t)
		if len(leftoverFiles(t, out)) != 1 || len(leftoverFiles(t, tmp)) == 0 {
			t.Errorf("%s: the running command has the output files %v and the temporary files %v, want one output file and some temporary files", name, leftoverFiles(t, out), leftoverFiles(t, tmp))
		}
		interrupt(t, os.Interrupt, name, cmd, stderr, out, tmp)
	}
}

// TestKillFiles checks that after kill -9 there is no output, and that the next run removes the temporary data.
func TestKillFiles(t *testing.T) {
	for name, args := range fileCommands {
		dir := t.TempDir()
		out := filepath.Join(dir, "out[1]*.csv")
		cmd, in, tmp, _ := feed(t, args, "-o", out)
		must.Do(t, cmd.Start())
		must.Get(in.Write(manyRows(t, 1000)))(t)
		must.Do(t, cmd.Process.Kill())
		_ = cmd.Wait() // returns an error, because the process was killed
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: the output exists after a kill", name)
		}
		leftovers := leftoverFiles(t, dir, tmp)
		for _, f := range leftovers { // give unfinished output files some content, as if the process had died later
			if strings.HasSuffix(f, ".tmp") {
				must.Do(t, os.WriteFile(f, []byte("begun"), 0o666))
			}
		}
		if len(leftovers) < 2 {
			t.Errorf("%s: the killed command leaves only %v, so it was killed too late", name, leftovers)
		}
		rerun := program(t, append(args, "--format", "csv", "--tmp", tmp, "-o", out, "-")...)
		rerun.Stdin = strings.NewReader(benchdata.CSVHeader + "1,a,2,3,x\n")
		if text, err := rerun.CombinedOutput(); err != nil {
			t.Fatalf("the next run: %v\n%s", err, text)
		}
		if names := leftoverFiles(t, dir, tmp); len(names) != 1 || names[0] != out {
			t.Errorf("%s: the next run leaves %v, want only %s", name, names, out)
		}
	}
}

// TestBrokenPipe checks that a command whose output is no longer read exits without a message, like any program, and
// leaves no temporary data.
func TestBrokenPipe(t *testing.T) {
	url := "file:" + filepath.Join(t.TempDir(), "store")
	fillStore(t, url, partd.Entry{Key: "key", Value: bytes.Repeat([]byte("0123456789\n"), 1<<19)})
	commands := maps.Clone(fileCommands)
	commands["get"], commands["scan"], commands["scan --values"] = []string{"get", "key"}, []string{"scan"}, []string{"scan", "--values"}
	for name, args := range commands {
		tmp := t.TempDir()
		cmd, stderr := programErrs(t, append(args, "--store", url)...)
		if fileCommands[name] != nil {
			cmd, _, tmp, stderr = feed(t, args)
			cmd.Stdin = bytes.NewReader(manyRows(t, 150_000))
		}
		if quiet, err := leaveEarly(t, cmd); !quiet || stderr.Len() > 0 {
			t.Errorf("%s with a reader that stops early: %v, stderr %s; want an end by SIGPIPE without a message", name, err, stderr)
		}
		wantNoFiles(t, name, tmp)
	}
}

// TestEndlessLine checks that a line far larger than --memory causes an error with the line's position, and does not
// increase the use of memory.
func TestEndlessLine(t *testing.T) {
	for name, args := range fileCommands {
		cmd, in, tmp, stderr := feed(t, args, "-o", filepath.Join(t.TempDir(), "out"))
		wait := startMeasured(t, cmd)
		_, _ = io.WriteString(in, benchdata.CSVHeader+"1,a,2,3,x\n1,b,2,3,")
		piece := bytes.Repeat([]byte("x"), 1<<20)
		sent := 0
		for ; sent < 1<<10; sent++ {
			if _, err := in.Write(piece); err != nil {
				break // the command has exited
			}
		}
		peak, err := wait()
		code := exitCode(t, err)
		if code != cliutil.ExitFailed || sent == 1<<10 || !strings.HasPrefix(stderr.String(), "partd: standard input, line 3: too large: the record that begins here is longer than 4194304 bytes") {
			t.Errorf("%s: exit code %d after %d MiB of input, stderr %q; want code 1 before 1024 MiB, and an error about line 3", name, code, sent, stderr)
		}
		if peak > 64<<20 && !procs.RaceEnabled {
			t.Errorf("%s used %d MiB of memory, want at most 64", name, peak>>20)
		}
		wantNoFiles(t, name, tmp)
	}
}

// TestInterruptPipes checks that a signal ends a command that waits for the first byte of its input, for the rest of a
// value, or for another process to open a pipe that the command reads or writes. The beginning of a value is not stored.
func TestInterruptPipes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, input := filepath.Join(dir, "pipe"), filepath.Join(dir, "in.csv")
	must.Do(t, errors.Join(syscall.Mkfifo(pipe, 0o600), os.WriteFile(input, []byte("a,b,c,d,e\n1,2,3,4,5\n"), 0o666)))
	commands := [][]string{{"append", "key"}, {"append", "key", pipe}, {"join", "--on", "a", input, pipe}, {"join", "--on", "a", input, input, "-o", pipe}}
	for _, args := range append(slices.Collect(maps.Values(fileCommands)), []string{"split", "--by", "2", "--dir", "out"}, []string{"shuffle", "--by", "2", "--store", "log:out"}) {
		commands = append(commands, slices.Concat(args, []string{"--format", "csv", "-"}), slices.Concat(args, []string{"--format", "csv", pipe}))
		if args[0] != "split" && args[0] != "shuffle" {
			commands = append(commands, slices.Concat(args, []string{input, "-o", pipe}))
		}
	}
	for i, args := range commands {
		tmp := t.TempDir()
		cmd, stderr := programErrs(t, args...)
		cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
		in := must.Get(cmd.StdinPipe())(t)
		must.Do(t, cmd.Start())
		if i == 0 {
			must.Get(io.WriteString(in, "half a value"))(t)
		}
		procs.WaitIdle(t, cmd.Process.Pid) // now the process handles signals
		interrupt(t, []os.Signal{syscall.SIGTERM, os.Interrupt}[min(i, 1)], fmt.Sprint(args), cmd, stderr, tmp, cmd.Dir)
	}
}

// TestInterruptOutput checks that Ctrl-C ends a command that waits for a reader of its output.
func TestInterruptOutput(t *testing.T) {
	t.Parallel()
	for name, args := range fileCommands {
		cmd, _, tmp, stderr := feed(t, args)
		cmd.Stdin = bytes.NewReader(manyRows(t, 150_000))
		stdout := must.Get(cmd.StdoutPipe())(t)
		must.Do(t, cmd.Start())
		must.Get(io.ReadFull(stdout, make([]byte, 5)))(t)
		interrupt(t, os.Interrupt, name, cmd, stderr, tmp)
	}
}

// TestInterruptSplit checks that a split leaves no files or directories after Ctrl-C, and that the next run removes
// those that kill -9 leaves.
func TestInterruptSplit(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		dir := t.TempDir()
		cmd, in, tmp, stderr := feed(t, []string{"split", "--by", "2", "--dir", filepath.Join(dir, "out")})
		must.Do(t, cmd.Start())
		must.Get(in.Write(manyRows(t, 1000)))(t)
		if len(leftoverFiles(t, dir)) == 0 || len(leftoverFiles(t, tmp)) == 0 {
			t.Errorf("the running command has the files %v and the temporary files %v, want some of both", leftoverFiles(t, dir), leftoverFiles(t, tmp))
		}
		if signal == os.Interrupt {
			interrupt(t, signal, "split", cmd, stderr, dir, tmp)
		} else {
			must.Do(t, cmd.Process.Kill())
			_ = cmd.Wait() // returns an error, because the process was killed
		}
		rerun := program(t, "split", "--by", "2", "--format", "csv", "--tmp", tmp, "--dir", filepath.Join(dir, "out"), "-")
		rerun.Stdin = strings.NewReader(benchdata.CSVHeader + "1,a,2,3,x\n")
		if text, err := rerun.CombinedOutput(); err != nil {
			t.Fatalf("the next run: %v\n%s", err, text)
		}
		if names := leftoverFiles(t, dir, tmp); len(names) != 2 {
			t.Errorf("the next run leaves %v, want only the directory and one file", names)
		}
	}
}
