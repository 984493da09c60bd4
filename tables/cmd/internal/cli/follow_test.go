package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
)

// versionsIn returns the versions of the rows in a file of JSON lines, as "VERSION:ID", in order.
func versionsIn(t *testing.T, file string) (rows []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	must.Do(t, err)
	for line := range strings.Lines(string(text)) {
		var row struct {
			ID      int64
			Version int64 `json:"_version"`
		}
		if json.Unmarshal([]byte(line), &row) == nil && strings.HasSuffix(line, "\n") {
			rows = append(rows, fmt.Sprint(row.Version, ":", row.ID))
		}
	}
	return rows
}

// TestFollow follows a table on a server with killed and stopped programs: the file has each row once.
func TestFollow(t *testing.T) {
	server, u := startServer(t, "--dir", filepath.Join(t.TempDir(), "tables"), "--listen", "grpc://localhost:0")
	to, dir := "--server="+u.String(), t.TempDir()
	file, state := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "state")
	put := func(ids ...int) {
		t.Helper()
		mustRun(t, "id\n"+strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", "\n"), "[]")+"\n", "put", "t", "-", "--format", "csv", "--mode", "append", to)
	}
	put(1, 2)
	follow := func(args ...string) *exec.Cmd {
		t.Helper()
		cmd := program(append([]string{"changes", "t", "--follow", "--every", "50ms", to}, args...)...)
		cmd.Stderr = t.Output()
		must.Do(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	want := func(rows ...string) {
		t.Helper()
		waitUntil(t, "the rows do not arrive", func() bool { return len(versionsIn(t, file)) >= len(rows) })
		if got := versionsIn(t, file); strings.Join(got, " ") != strings.Join(rows, " ") {
			t.Fatalf("the rows are %q, want %q", got, rows)
		}
	}
	cmd := follow("-o", file, "--state", state)
	want("1:1", "1:2")
	put(3)
	want("1:1", "1:2", "2:3")
	waitUntil(t, "the state is not written", func() bool { text, _ := os.ReadFile(state); return bytes.Contains(text, []byte(`"version":2,`)) })
	must.Do(t, cmd.Process.Kill())
	_ = cmd.Wait()

	// as if a program had been killed in the first version
	early, earlyState := filepath.Join(dir, "early.jsonl"), filepath.Join(dir, "early state")
	refused := program("changes", "t", "--follow", "--since", "99", to, "-o", early, "--state", earlyState)
	if out, err := refused.CombinedOutput(); err == nil {
		t.Fatalf("changes since version 99: %s", out)
	}
	must.Do(t, os.WriteFile(early, []byte("{\"id\":1,"), 0o666))
	cmd = follow("-o", early, "--state", earlyState)
	waitUntil(t, "the rows do not arrive", func() bool { return strings.Join(versionsIn(t, early), " ") == "2:1 2:2 2:3" })
	must.Do(t, cmd.Process.Kill())
	_ = cmd.Wait()

	// as if a program had been killed between a version's rows and its state
	f := must.Get(os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0))(t)
	must.Get(f.WriteString("{\"id\":4,\"_change\":\"insert\",\"_version\":3}\n{\"id\":"))(t)
	must.Do(t, f.Close())
	put(4)
	cmd = follow("-o", file, "--state", state)
	want("1:1", "1:2", "2:3", "3:4")
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted program must not report success")
	}

	arrow, arrowState := filepath.Join(dir, "rows.arrow"), filepath.Join(dir, "arrow state")
	for i := range 3 {
		cmd := follow("-o", arrow, "--state", arrowState, "--format", "arrow")
		mark := fmt.Sprintf(`"version":%d,`, 3+i)
		waitUntil(t, "the state is not written", func() bool { text, _ := os.ReadFile(arrowState); return bytes.Contains(text, []byte(mark)) })
		must.Do(t, cmd.Process.Kill())
		_ = cmd.Wait()
		put(10 + i)
	}
	text := must.Get(os.ReadFile(arrow))(t)
	r := must.Get(ipc.NewReader(bytes.NewReader(text)))(t)
	rows := int64(0)
	for r.Next() {
		rows += r.RecordBatch().NumRows()
	}
	if r.Err() != nil || rows != 6 || r.Schema().Field(2).Name != "_version" {
		t.Errorf("the stream has %d rows and columns %v, error %v; want 6 rows", rows, r.Schema(), r.Err())
	}
	r.Release()

	mustRun(t, "", "evolve", "t", "--add", "more:utf8", to)
	put(20)
	for args, want := range map[string]string{
		"-o " + arrow + " --format arrow --state " + strings.ReplaceAll(arrowState, " ", "?"): "the columns of the table have changed since version 5",
		"-o " + file + " --state " + state + "2":                                              "does not say",
		"-o " + arrow + " --state " + state:                                                   "is not the file",
		"--state " + file:                                                                     "is not a state",
		"--since 99":                                                                          "start again",
	} {
		fields := strings.Fields(args)
		for i := range fields {
			fields[i] = strings.ReplaceAll(fields[i], "?", " ")
		}
		cmd := program(append([]string{"changes", "t", "--follow", "--every", "50ms", to}, fields...)...)
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		out, err := cmd.CombinedOutput()
		stop.Stop()
		if err == nil || cmd.ProcessState.ExitCode() != cliutil.ExitFailed || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, output %s; want %q", args, err, out, want)
		}
	}

	cmd = follow("-o", file, "--state", state)
	waitUntil(t, "the last rows do not arrive", func() bool { return len(versionsIn(t, file)) == 8 })
	start := time.Now()
	must.Do(t, server.Process.Signal(syscall.SIGTERM))
	if err := server.Wait(); err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("with a follower, the server stops after %v with the error %v", time.Since(start), err)
	}
	_ = cmd.Wait()
}

// TestFollowUsage checks the flags that cannot be combined, and that a local directory is refused.
func TestFollowUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--follow": "use --server", "--follow --server grpc://h:1 -o f": "--state", "--every 1s": "need --follow", "--state s": "need --follow",
		"--follow --server grpc://h:1 --format csv": "jsonl or arrow", "--follow --server grpc://h:1 --every 1us": "10ms",
		"--follow --server grpc://h:1 --version 3": "newest", "--follow --server grpc://h:1 --force -o f --state s": "--force",
		"--follow --server grpc://h:1 -o f --state ./f": "same file",
	} {
		if _, stderr, code := command(t, "", append([]string{"changes", "t"}, strings.Fields(args)...)...); code != cliutil.ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, stderr %s; want %q", args, code, stderr, want)
		}
	}
}
