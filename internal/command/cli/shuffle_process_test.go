package cli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/logstore"
)

// TestShuffleLargerThanMemory shuffles a file that is much larger than --memory to two kinds of stores or, if
// PARTD_ALL_LAYERS is set, four. Both random pairs have a log, a directory of files, and a buffer. Each key must have
// the rows that an independent reader finds, in order. The shuffle reuses its input blocks many times, so the test
// detects a store that keeps references to keys or values.
func TestShuffleLargerThanMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "rows.csv")
	f := must.Get(os.Create(file))(t)
	must.Do(t, errors.Join(benchdata.WriteCSV(f, benchdata.CSVOptions{Rows: 300_000, Keys: 20, Dist: "zipf", Seed: 3, Quoted: true}), f.Close()))
	want := map[string][]string{} // the ids of each key's rows
	for _, row := range readCSV(t, file)[1:] {
		want[row[1]] = append(want[row[1]], row[0])
	}
	kinds := []string{"log", "buffer+file", "file", "buffer+log"}
	if os.Getenv("PARTD_ALL_LAYERS") == "" {
		pair := 2 * rand.IntN(2)
		kinds = kinds[pair : pair+2]
	}
	for _, kind := range kinds {
		store := filepath.Join(dir, kind+"-store")
		succeed(t, "shuffle", "--by", "key", "--memory", "16MiB", "--store", kind+":"+store, file)
		for key, ids := range want {
			got, err := csv.NewReader(strings.NewReader(succeed(t, "get", "--store", kind+":"+store, key))).ReadAll()
			if err != nil || len(got) != len(ids) {
				t.Fatalf("%s: key %s has %d rows, want %d (%v)", kind, key, len(got), len(ids), err)
			}
			for i, row := range got {
				if row[0] != ids[i] || row[1] != key {
					t.Fatalf("%s: row %d of key %s is %q, want id %s", kind, i, key, row, ids[i])
				}
			}
		}
		must.Do(t, os.RemoveAll(store)) // temporary directories may be small
	}
}

// TestPrintedCommands checks that the commands that a shuffle prints work as printed: if partd was run by its path
// or with go run, and if PARTD_STORE is set only for the shuffle or only for the printed commands.
func TestPrintedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.csv")
	must.Do(t, os.WriteFile(file, []byte("k,v\na b,1\n"), 0o666))
	root := must.Get(filepath.Abs("../../.."))(t)
	goTool := must.Get(exec.LookPath("go"))(t)
	path := "PATH=" + filepath.Dir(goTool) + ":/usr/bin:/bin" // a PATH that has no partd
	goRun := exec.Command("go", "run", "./cmd/partd", "shuffle", "--by", "k", "--store", "log:"+filepath.Join(dir, "store"), file)
	goRun.Dir, goRun.Env = root, append(os.Environ(), "PARTD_QUIET=")
	byVariable := program(t, "shuffle", "--by", "k", file)
	byVariable.Env = append(byVariable.Env, "PARTD_STORE=log:mine")
	missesVariable := program(t, "shuffle", "--by", "k", "--store", defaultStore, file)
	missesVariable.Env = append(missesVariable.Env, "PARTD_STORE=log:another")
	for label, cmd := range map[string]*exec.Cmd{"path": program(t, "shuffle", "--by", "k", file), "go run": goRun, "variable": byVariable, "other variable": missesVariable} {
		cmd.Stderr = nil
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("shuffle, case %s: %v", label, err)
		}
		_, printed, _ := strings.Cut(string(out), "read them back\n")
		get, _, _ := strings.Cut(printed, "\n")
		rerun := exec.Command("sh", "-c", get)
		rerun.Dir, rerun.Env = cmd.Dir, cmd.Env
		if label == "variable" {
			rerun.Env = rerun.Env[:len(rerun.Env)-1]
		}
		rerun.Env = append(rerun.Env[:len(rerun.Env):len(rerun.Env)], path)
		if got, err := rerun.CombinedOutput(); err != nil || string(got) != "a b,1\n" {
			t.Errorf("%s: the printed command %s: %v, output\n%s\nwant a b,1", label, get, err, got)
		}
	}
}

// exitCode returns the exit code of a command, or -1 if a signal ended it.
func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return 0
}

// TestInterrupt checks that Ctrl-C ends a shuffle with exit code 130. The store must then contain only complete
// records, and the message must explain how to continue.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--replace"}, {"--append"}} {
		cmd, stderr := programErrs(t, append([]string{"shuffle", "--store", "file:partd-out", "--by", "2", "--format", "csv", "--memory", "16MiB", "-"}, args...)...)
		stdin := must.Get(cmd.StdinPipe())(t)
		must.Do(t, cmd.Start())
		// Write more than is read ahead, so that some records are stored. Then the input hangs.
		must.Do(t, benchdata.WriteCSV(stdin, benchdata.CSVOptions{Rows: 60_000, Keys: 10, Seed: 1}))
		must.Eventually(t, 20*time.Second, "no records are stored", func() bool {
			files, _ := filepath.Glob(filepath.Join(cmd.Dir, "partd-out", "k*"))
			return len(files) == 10
		})
		must.Do(t, cmd.Process.Signal(os.Interrupt))
		if code := exitCode(t, cmd.Wait()); code != cliutil.ExitInterrupted {
			t.Errorf("the interrupted command returned exit code %d, want %d", code, cliutil.ExitInterrupted)
		}
		want := "partd: interrupted\nThe store file:partd-out is incomplete (at least "
		if args[0] == "--append" {
			want = "partd: interrupted\nThe store file:partd-out now has a part of these records"
		}
		if !strings.HasPrefix(stderr.String(), want) {
			t.Errorf("stderr is %q, want %q at the beginning", stderr.String(), want)
		}
		files, err := filepath.Glob(filepath.Join(cmd.Dir, "partd-out", "k*"))
		if err != nil || len(files) != 10 {
			t.Fatalf("the interrupted shuffle stored the keys %v (error %v), want 10", files, err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil || !bytes.HasSuffix(data, []byte("\n")) {
				t.Errorf("%s does not end with a complete record: %v", name, err)
			}
			rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
			if err != nil || len(rows[0]) != 5 || rows[0][1] != filepath.Base(name) {
				t.Errorf("%s does not contain the rows of its key: %v", name, err)
			}
		}
	}
}

// leaveEarly stops reading a command's output after some bytes. quiet reports whether SIGPIPE ended the command.
func leaveEarly(t *testing.T, cmd *exec.Cmd) (quiet bool, err error) {
	t.Helper()
	stdout := must.Get(cmd.StdoutPipe())(t)
	must.Do(t, cmd.Start())
	must.Get(io.ReadFull(stdout, make([]byte, 5)))(t)
	stdout.Close()
	err = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGPIPE, err
}

// TestShuffleProof checks that a shuffleProof detects missing, duplicated, changed and misplaced records, even if the
// sizes are correct.
func TestShuffleProof(t *testing.T) {
	good := []partd.Entry{{Key: "a", Value: []byte("1\n")}, {Key: "b", Value: []byte("2\n")}, {Key: "b", Value: []byte("3\n")}}
	for label, stored := range map[string][]partd.Entry{
		"":           good,
		"missing":    good[:2],
		"duplicated": append(good[:2:2], good[1]),
		"changed":    {good[0], good[1], {Key: "b", Value: []byte("4\n")}},
		"swapped":    {{Key: "b", Value: []byte("1\n")}, {Key: "a", Value: []byte("2\n")}, good[2]},
		"reversed":   {good[2], good[1], good[0]}, // the proof ignores the order
	} {
		store, err := logstore.Open(t.TempDir(), nil)
		must.Do(t, err)
		must.Do(t, store.Append(t.Context(), partd.Entry{Key: "before", Value: []byte("x")}))
		var p shuffleProof
		must.Do(t, p.begin(t.Context(), true, store))
		must.Do(t, store.Append(t.Context(), stored...))
		var list entryList
		for i := range good {
			list.addToSum(&good[i])
		}
		err = p.compare(t.Context(), int64(len(good)), list.sum)
		if wantErr := label != "" && label != "reversed"; wantErr != (err != nil) {
			t.Errorf("%q: compare = %v, want an error: %v", label, err, wantErr)
		}
		must.Do(t, store.Close())
	}
}
