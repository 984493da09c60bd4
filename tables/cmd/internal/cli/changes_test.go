package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
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
	markWriting(t, earlyState, early)
	cmd = follow("-o", early, "--state", earlyState)
	waitUntil(t, "the rows do not arrive", func() bool { return strings.Join(versionsIn(t, early), " ") == "2:1 2:2 2:3" })
	must.Do(t, cmd.Process.Kill())
	_ = cmd.Wait()

	// as if a program had been killed between a version's rows and its state
	f := must.Get(os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0))(t)
	must.Get(f.WriteString("{\"id\":4,\"_change\":\"insert\",\"_version\":3}\n{\"id\":"))(t)
	must.Do(t, f.Close())
	markWriting(t, state, file)
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
	r := must.Get(ipc.NewReader(bytes.NewReader(must.Get(os.ReadFile(arrow))(t))))(t)
	if rows, err := tabletest.CountRows(r); err != nil || rows != 6 || r.Schema().Field(2).Name != "_version" {
		t.Errorf("the stream has %d rows and columns %v, error %v; want 6 rows", rows, r.Schema(), err)
	}

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

// markWriting changes a state as if a program had been killed while it wrote to the file.
func markWriting(t *testing.T, state, file string) {
	t.Helper()
	text := bytes.TrimSuffix(must.Get(os.ReadFile(state))(t), []byte("}\n"))
	text = fmt.Appendf(text, ",\"writing\":%d}\n", must.Get(vfs.OS{}.Info(file))(t).Ino)
	must.Do(t, os.WriteFile(state, text, 0o666))
}

// TestFollowKeepsFiles checks that following a table never removes bytes that the state does not describe.
func TestFollowKeepsFiles(t *testing.T) {
	_, u := startServer(t, "--dir", filepath.Join(t.TempDir(), "tables"), "--listen", "grpc://localhost:0")
	to := "--server=" + u.String()
	mustRun(t, "id\n1\n", "put", "t", "-", "--format", "csv", to)
	t.Chdir(t.TempDir())
	// follow runs until the state has the version, if want is "", or until the program fails.
	follow := func(file, state, want string) {
		t.Helper()
		cmd := program("changes", "t", "--follow", "--every", "50ms", to, "-o", file, "--state", state)
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		must.Do(t, cmd.Start())
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		if want == "" {
			waitUntil(t, "the state is not written", func() bool {
				text, _ := os.ReadFile(state)
				return bytes.Contains(text, []byte(`"version":1,`)) && !bytes.Contains(text, []byte("writing"))
			})
			must.Do(t, cmd.Process.Kill())
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(output.String(), want) {
			t.Errorf("-o %s --state %s: %v, output %q, want %q", file, state, err, output.String(), want)
		}
	}
	none := `{"version":0,"uuid":"","bytes":0,"end":"e3b0c44298fc1c14"}` + "\n" // of a first run without rows
	must.Do(t, os.WriteFile("none", []byte(none), 0o666))
	must.Do(t, os.WriteFile("killed", []byte(none), 0o666))
	const precious = "precious\nfile\n"
	for _, name := range []string{"foreign", "other", "killed file"} {
		must.Do(t, os.WriteFile(name, []byte(precious), 0o666))
	}
	markWriting(t, "killed", "killed file")
	must.Do(t, os.Symlink("foreign", "link"))
	for _, c := range [][2]string{{"foreign", "none"}, {"link", "none"}, {"other", "killed"}} {
		follow(c[0], c[1], "describes only 0")
	}
	follow("foreign", "missing", "does not say where they end")
	if runtime.GOOS == "linux" {
		follow("/dev/null", "none", "not a regular file")
	}
	follow("killed file", "killed", "")
	follow("rows", "state", "")
	rows := string(must.Get(os.ReadFile("rows"))(t))
	follow("gone", "state", "no such file")
	for text, want := range map[string]string{rows + precious: "describes only", rows[1:]: "is not the file", precious + rows: "is not the file", rows[:len(rows)-1]: "is not the file"} {
		must.Do(t, os.WriteFile("copy", []byte(text), 0o666))
		follow("copy", "state", want)
		if got := string(must.Get(os.ReadFile("copy"))(t)); got != text {
			t.Errorf("a file of %q has now %q", text, got)
		}
	}
	for name, want := range map[string]string{"foreign": precious, "other": precious, "killed file": rows} {
		if got := string(must.Get(os.ReadFile(name))(t)); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	if _, err := os.Stat("gone"); err == nil {
		t.Error("a missing file was created, although the state says that it has rows")
	}
}

// TestFollowUsage checks the flags that cannot be combined, and that a local directory is refused.
func TestFollowUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--follow": "use --server", "--follow --server grpc://h:1 -o f": "--state", "--every 1s": "need --follow", "--state s": "need --follow",
		"--follow --server grpc://h:1 --format csv": "jsonl or arrow", "--follow --server grpc://h:1 --every 1us": "10ms",
		"--follow --server grpc://h:1 --version 3": "newest", "--follow --server grpc://h:1 --force -o f --state s": "--force",
		"--follow --server grpc://h:1 -o f --state ./f": "same file",
	} {
		wantFailure(t, cliutil.ExitUsage, want, append([]string{"changes", "t"}, strings.Fields(args)...)...)
	}
}

func TestChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tables")
	mustRun(t, "", "put", "trades", writeTemp(t, "trades.csv", "id,price\n1,1.5\n2,2.5\n"), "--dir", dir)
	changes := func(args ...string) (rows []string, stderr string) {
		t.Helper()
		out, stderr, code := command(t, "", append([]string{"changes", "trades", "--dir", dir}, args...)...)
		if code != 0 {
			t.Fatalf("changes %q: exit code %d, stderr %s", args, code, stderr)
		}
		rows = strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(rows[1:])
		return rows, stderr
	}
	if rows, stderr := changes(); strings.Join(rows, " ") != "id,price,_change 1,1.5,insert 2,2.5,insert" || stderr != "The changes lead to version 1.\n" {
		t.Errorf("all changes: got %q, stderr %q", rows, stderr)
	}
	mustRun(t, "", "snapshot", "create", "s", "--dir", dir)
	mustRun(t, "", "upsert", "trades", writeTemp(t, "more.csv", "id,price\n2,3.5\n3,4.5\n"), "--key", "id", "--dir", dir)
	want := "id,price,_change 2,2.5,update_before 2,3.5,update_after 3,4.5,insert"
	for _, since := range [][]string{{"--since", "1"}, {"--since-snapshot", "s"}} {
		rows, stderr := changes(append(since, "--key", "id", "--json")...)
		if strings.Join(rows, " ") != want || !strings.Contains(stderr, `"version":2`) || !strings.Contains(stderr, `"uuid":"`) {
			t.Errorf("changes %q: got %q, stderr %q; want rows %q and version 2", since, rows, stderr, want)
		}
	}
	if rows, _ := changes("--since", time.Now().Format(time.RFC3339Nano)); len(rows) != 1 {
		t.Errorf("changes since the current time: got %q, want no rows", rows)
	}
	sql := `SELECT count(*) AS n FROM changes."".trades`
	wantOutput(t, "n\n3\n", "sql", strings.ReplaceAll(sql, `""`, `"default"`), "--since", "1", "--dir", dir)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--since", "x"}, cliutil.ExitUsage, "neither a version nor a time"},
		{[]string{"--since", ""}, cliutil.ExitUsage, "empty"},
		{[]string{"--since-snapshot", ""}, cliutil.ExitUsage, "empty"},
		{[]string{"--since", "99"}, cliutil.ExitFailed, "start again"},
		{[]string{"--since", "2999-01-01"}, cliutil.ExitFailed, "nearest exact moments"},
		{[]string{"--since", "1", "--uuid", "x"}, cliutil.ExitFailed, "start again"},
		{[]string{"--since", "1", "--since-snapshot", "s"}, cliutil.ExitFailed, "since-snapshot"},
	} {
		if _, stderr, code := command(t, "", append([]string{"changes", "trades", "--dir", dir}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("changes %q: exit code %d, stderr %s; want code %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
}
