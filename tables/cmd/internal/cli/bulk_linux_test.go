package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables/bulk"
)

// leftovers returns the entries of directories.
func leftovers(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		entries := must.Get(os.ReadDir(dir))(t)
		for _, e := range entries {
			names = append(names, filepath.Join(filepath.Base(dir), e.Name()))
		}
	}
	return names
}

// TestPipeTwice checks that one pipe cannot be two inputs: the first would read all of its rows.
func TestPipeTwice(t *testing.T) {
	r, w, err := os.Pipe()
	must.Do(t, err)
	must.Get(w.WriteString("k\n1\n"))(t)
	must.Do(t, w.Close())
	pipe := fmt.Sprintf("/dev/fd/%d", r.Fd())
	for _, args := range [][]string{{pipe, pipe}, {"-", pipe}} {
		var stderr bytes.Buffer
		code := runCommand(t.Context(), append([]string{"sort", "--by", "k", "--from", "csv"}, args...), &app{in: r, out: &bytes.Buffer{}, errOut: &stderr})
		if want := args[0] + " and " + pipe + " are the same pipe"; code != cliutil.ExitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("sort of %q: exit code %d, %s, want %d, %s", args, code, stderr.String(), cliutil.ExitUsage, want)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"a.csv", "b.csv"} {
		must.Do(t, os.Symlink(pipe, filepath.Join(dir, name)))
	}
	_, err = bulk.Open(t.Context(), filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv"))
	must.Fail(t, err, "are the same pipe", "Open of a pipe under two names")
}

// TestSplitInterrupted kills a split, and interrupts it, while it reads and while it writes files. No file may have its
// final name. The next run must remove what a killed run leaves. The input has no end, so that no run ends before the
// signal.
func TestSplitInterrupted(t *testing.T) {
	dir := t.TempDir()
	parent, tmp := filepath.Join(dir, "parent"), filepath.Join(dir, "tmp")
	must.Do(t, os.Mkdir(parent, 0o777))
	must.Do(t, os.Mkdir(tmp, 0o777))
	t.Setenv("TMPDIR", tmp)
	out := filepath.Join(parent, "out")
	few, many := randomRows(1, 1, 1), randomRows(4000, 64, 1<<10) // half of 64 keys have open files
	keys := map[int32]bool{}
	for _, k := range many.Column(0).(*array.Int32).Int32Values() {
		keys[k] = true
	}
	var whole bytes.Buffer
	w := ipc.NewWriter(&whole, ipc.WithSchema(many.Schema()))
	must.Do(t, w.Write(many))
	must.Do(t, w.Close())
	for range procs.Kills(t, 1) {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
			for _, isWriting := range []bool{false, true} {
				cmd := program("split", "--by", "k", "--from", "arrow", "--to-format", "csv", "--memory", "64MiB", "--progress", "always", "-o", out, "-")
				var stderr procs.Output
				cmd.Stderr = &stderr
				in := must.Get(cmd.StdinPipe())(t)
				must.Do(t, cmd.Start())
				t.Cleanup(func() { _ = cmd.Process.Kill() }) // if the test fails; otherwise the process has ended
				rows := few
				if isWriting {
					rows = many
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					w := ipc.NewWriter(in, ipc.WithSchema(rows.Schema()))
					for w.Write(rows) == nil { // until the process closes its end
						time.Sleep(time.Millisecond)
					}
				}()
				if isWriting {
					waitUntil(t, "no temporary file appeared", func() bool {
						files, err := filepath.Glob(filepath.Join(parent, "partd-tmp-*", "*", "New", "files", "*"))
						return err == nil && len(files) > 0
					})
				} else {
					waitUntil(t, "no progress is shown", func() bool { return strings.Contains(stderr.String(), "MB") })
				}
				must.Do(t, cmd.Process.Signal(signal))
				<-ended
				_ = cmd.Wait() // the exit code is checked below
				wantCode := map[syscall.Signal]int{syscall.SIGKILL: -1}[signal]
				if signal != syscall.SIGKILL {
					wantCode = cliutil.ExitInterrupted
				}
				if code := cmd.ProcessState.ExitCode(); code != wantCode {
					t.Errorf("%v, writing: %v: exit code %d, want %d: %s", signal, isWriting, code, wantCode, stderr.String())
				}
				if _, err := os.Stat(out); !os.IsNotExist(err) {
					t.Fatalf("%v, writing: %v: the directory of the files exists: %v", signal, isWriting, err)
				}
				if left := leftovers(t, parent, tmp); signal != syscall.SIGKILL && len(left) > 0 {
					t.Errorf("%v, writing: %v: %q are left", signal, isWriting, left)
				} else if strings.Contains(strings.ReplaceAll(fmt.Sprint(left), "/partd-tmp-", ""), "/") {
					t.Errorf("%v, writing: %v: %q are left, want only names that begin with partd-tmp-", signal, isWriting, left)
				}
				if signal == syscall.SIGKILL {
					mustRun(t, whole.String(), "split", "--by", "k", "--from", "arrow", "--to-format", "csv", "--memory", "64MiB", "-o", out, "-")
					if left := leftovers(t, parent, tmp); len(left) != 1 || len(filesIn(t, out)) != len(keys) {
						t.Errorf("after another run, there are %q, want only the directory of the files", left)
					}
					must.Do(t, os.RemoveAll(out))
				}
			}
		}
	}
}

// TestBulkFullDisk checks that a run that fills the disk of the files, or of the temporary data, says so and leaves
// nothing.
func TestBulkFullDisk(t *testing.T) {
	small, tmp := vfstest.Mount(t, "tmpfs", 20<<20), t.TempDir()
	in := filepath.Join(t.TempDir(), "in.parquet")
	writeBatch(t, in, randomRows(1000, 1000, 100<<10), 100)
	for _, c := range []struct {
		tmp  string
		args []string
		want string
	}{
		{tmp, []string{"split", "-o", filepath.Join(small, "out")}, small},
		{small, []string{"split", "-o", filepath.Join(tmp, "out")}, "$TMPDIR"},
		{tmp, []string{"sort", "-o", filepath.Join(small, "out.arrow")}, small},
		{small, []string{"sort", "-o", filepath.Join(tmp, "out.arrow")}, "$TMPDIR"},
		{tmp, []string{"each", "SELECT * FROM rows", "-o", filepath.Join(small, "out.arrow")}, small},
		{small, []string{"each", "SELECT * FROM rows", "-o", filepath.Join(tmp, "out.arrow")}, "$TMPDIR"},
	} {
		t.Setenv("TMPDIR", c.tmp)
		input := in
		if c.args[0] == "each" {
			input = "rows=" + in
		}
		_, stderr, code := command(t, "", append(c.args, "--by", "k", "--memory", "64MiB", input)...)
		if code != cliutil.ExitFailed || !strings.HasPrefix(stderr, "partd-tables: no space left on device: ") || !strings.Contains(stderr, c.want) {
			t.Errorf("%q with temporary data in %s: exit code %d, %s, want an error about the space in %s", c.args, c.tmp, code, stderr, c.want)
		}
		if n := strings.Count(stderr, "out.arrow"); n > 1 {
			t.Errorf("%q: the message names the output %d times: %s", c.args, n, stderr)
		}
		if left := leftovers(t, small, tmp); len(left) > 0 {
			t.Errorf("%q with temporary data in %s: %q are left", c.args, c.tmp, left)
		}
	}
}

// TestBulkHugeGroup reads a row group that is much larger than the memory. PARTD_BULK_GROUP is its size in MiB.
func TestBulkHugeGroup(t *testing.T) {
	dir := t.TempDir()
	in, small := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "small.parquet")
	n := procs.Number(t, "PARTD_BULK_GROUP", 200)
	writeBatch(t, in, randomRows(n<<10, 1000, 1<<10), int64(n)<<10)
	writeBatch(t, small, randomRows(10, 10, 10), 10)
	for _, args := range [][]string{{"split", "-o", filepath.Join(dir, "out")}, {"sort", "-o", filepath.Join(dir, "out.arrow")}} {
		args = append(args, "--by", "k", "--memory", "64MiB", "--json", "--force")
		_, base := measured(t, program(append(args, small)...))
		out, peak := measured(t, program(append(args, in)...))
		t.Logf("%s: %d MiB of memory, of which %d MiB for a small file", args[0], peak>>20, base>>20)
		if want := fmt.Sprint(":", n<<10, ","); !strings.Contains(string(out), want) {
			t.Errorf("%q: output %s, want %s", args, out, want)
		}
		if limit := base + 300<<20; peak > limit {
			t.Errorf("%q: the program used %d MiB, want at most %d MiB", args, peak>>20, limit>>20)
		}
	}
}

// measured runs a command, and returns its output and its peak memory in bytes.
func measured(t *testing.T, cmd *exec.Cmd) (out []byte, peak int64) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must.Do(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the caller finds that the output is missing
		close(ended)
	}()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if _, after, ok := bytes.Cut(status, []byte("VmHWM:")); ok {
			var kB int64
			_, _ = fmt.Sscan(string(after[:min(len(after), 30)]), &kB)
			peak = max(peak, kB<<10)
		}
		select {
		case <-ended:
			if !cmd.ProcessState.Success() {
				t.Fatalf("%q: %v: %s", cmd.Args, cmd.ProcessState, stderr.String())
			}
			return stdout.Bytes(), peak
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// TestBulkHugeRow splits and sorts rows. One row has 100 MiB, a quarter of the memory.
func TestBulkHugeRow(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.parquet")
	text := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int32}, {Name: "value", Type: arrow.BinaryTypes.String}}, nil))
	for i, size := range []int{1, 100 << 20, 2} {
		text.Field(0).(*array.Int32Builder).Append(int32(2 - i))
		text.Field(1).(*array.StringBuilder).Append(strings.Repeat("x", size))
	}
	writeBatch(t, in, text.NewRecordBatch(), 10)
	text.Release()
	mustRun(t, "", "split", "--by", "k", "--memory", "401MiB", "-o", filepath.Join(dir, "out"), in)
	mustRun(t, "", "sort", "--by", "k", "--memory", "401MiB", "-o", filepath.Join(dir, "sorted.parquet"), in)
	for _, files := range [][]string{{filepath.Join(dir, "sorted.parquet")}, {filepath.Join(dir, "out", "0.parquet"), filepath.Join(dir, "out", "1.parquet"), filepath.Join(dir, "out", "2.parquet")}} {
		r := must.Get(bulk.Open(t.Context(), files...))(t)
		var sizes []int
		for r.Next() {
			for i := range int(r.RecordBatch().NumRows()) {
				sizes = append(sizes, len(r.RecordBatch().Column(1).(*array.String).Value(i)))
			}
		}
		must.Do(t, r.Err())
		r.Release()
		if fmt.Sprint(sizes) != fmt.Sprint([]int{2, 100 << 20, 1}) {
			t.Errorf("%q: the values have the sizes %d", files, sizes)
		}
	}
}

// TestEachKilled kills each, and interrupts it, at several times. The output is absent, or complete if the run ended
// first, and the next run removes what a killed run leaves.
func TestEachKilled(t *testing.T) {
	dir := t.TempDir()
	tmp, outDir, in := filepath.Join(dir, "tmp"), filepath.Join(dir, "out"), filepath.Join(dir, "in.parquet")
	must.Do(t, os.Mkdir(tmp, 0o777))
	must.Do(t, os.Mkdir(outDir, 0o777))
	t.Setenv("TMPDIR", tmp)
	const rows = 20_000
	writeBatch(t, in, randomRows(rows, 500, 2<<10), 1000)
	out := filepath.Join(outDir, "out.arrow")
	args := []string{"each", "--by", "k", "--memory", "64MiB", "--json", "-o", out, "SELECT k, count(*) AS n, min(value) AS v FROM rows GROUP BY k", "rows=" + in}
	start := time.Now()
	if report := mustRun(t, "", args...); !strings.HasPrefix(report, `{"rows_read":{"rows":20000},"rows_written":500,`) {
		t.Fatalf("a whole run: %s", report)
	}
	whole := must.Get(os.ReadFile(out))(t)
	must.Do(t, os.Remove(out))
	duration := time.Since(start)
	killed := 0
	for i := range procs.Kills(t, 6) {
		signal := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2]
		cmd := program(args...)
		must.Do(t, cmd.Start())
		time.Sleep(duration * time.Duration(1+i%6) / 7)
		_ = cmd.Process.Signal(signal) // fails if the process has ended
		_ = cmd.Wait()                 // the exit code is checked below
		text, err := os.ReadFile(out)
		switch code := cmd.ProcessState.ExitCode(); {
		case code == 0 && len(text) > len(whole)/2:
			must.Do(t, os.Remove(out))
		case code == 0 || !os.IsNotExist(err):
			t.Errorf("%v: exit code %d, %d bytes in the output, error %v", signal, code, len(text), err)
		case signal == syscall.SIGTERM && code != cliutil.ExitInterrupted:
			t.Errorf("%v: exit code %d", signal, code)
		case signal == syscall.SIGTERM && len(leftovers(t, tmp, outDir)) > killed:
			t.Errorf("%v: %q are left", signal, leftovers(t, tmp, outDir))
		}
		killed = len(leftovers(t, tmp, outDir))
	}
	mustRun(t, "", args...)
	if left := leftovers(t, tmp, outDir); len(left) != 1 {
		t.Errorf("after another run, there are %q, want only the output", left)
	}
}
