package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestLongRecords checks that a record may be longer than a block, up to a quarter of the memory. Longer ones cause an
// error.
func TestLongRecords(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "long.csv")
	write := func(n int) {
		data := append([]byte("k,v\na,1\nb,"), bytes.Repeat([]byte("x"), n-3)...)
		must.Do(t, os.WriteFile(file, append(data, "\na,2\n"...), 0o666))
	}
	const limit = 16 << 20 / 4
	write(limit)
	url := "file:" + filepath.Join(dir, "store")
	if out, err := program(t, "shuffle", "--by", "k", "--memory", "16MiB", "--store", url, file).CombinedOutput(); err != nil {
		t.Fatalf("partd shuffle: %v\n%s", err, out)
	}
	out, err := program(t, "get", "--store", url, "b").Output()
	if err != nil || len(out) != limit {
		t.Errorf("get returns %d bytes, %v, want %d bytes", len(out), err, limit)
	}
	write(limit + 1)
	text, err := program(t, "shuffle", "--by", "k", "--memory", "16MiB", "--replace", "--store", url, file).CombinedOutput()
	want := fmt.Sprintf("long.csv, line 3: too large: the record that begins here is longer than %d bytes", limit)
	if exitCode(t, err) != cliutil.ExitFailed || !strings.Contains(string(text), want) {
		t.Errorf("shuffle of a record that is too long: %v, %s, want the error %s", err, text, want)
	}
	// append has the same limit for a value.
	text, err = program(t, "append", "--memory", "16MiB", "--store", url, "b", file).CombinedOutput()
	if exitCode(t, err) != cliutil.ExitFailed || !strings.Contains(string(text), "is larger than 4.0 MiB, the limit for one append (a quarter of --memory)") {
		t.Errorf("append of a value that is too long: %v, %s, want an error about the limit", err, text)
	}
}

// TestDistinctOfLongValues checks that partd distinct detects equal values even if they are too long for a worker to
// remember.
func TestDistinctOfLongValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "long.txt")
	var data, want bytes.Buffer
	for _, n := range []int{1, 40_000, 70_000} {
		line := strings.Repeat("x", n) + "\n"
		data.WriteString(line + line)
		want.WriteString(line)
	}
	must.Do(t, os.WriteFile(file, data.Bytes(), 0o666))
	for _, threads := range []string{"1", "8"} {
		out, err := program(t, "distinct", "--by", "1", "--memory", "16MiB", "--threads", threads, "-q", file).Output()
		if err != nil || !bytes.Equal(out, want.Bytes()) {
			t.Errorf("%s threads: distinct writes %d bytes, want %d, %v", threads, len(out), want.Len(), err)
		}
	}
}

// TestListAtTheLimit checks that a list that exceeds its memory only with the last value is written correctly in every
// format.
func TestListAtTheLimit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.txt")
	const n = 16<<20/32/2 + 1 // number of values "x;", of which the last exceeds the limit
	must.Do(t, os.WriteFile(file, bytes.Repeat([]byte("k x\n"), n), 0o666))
	list := strings.Repeat(";x", n)[1:]
	for format, want := range map[string]string{
		"text": "k " + list + "\n", "tsv": "k\t" + list + "\n", "csv": `k,"` + list + "\"\n",
		"jsonl": `{"1":"k","list(2)":["x"` + strings.Repeat(`,"x"`, n-1) + "]}\n",
	} {
		out, err := program(t, "group", "--by", "1", "--agg", "list(2)", "--memory", "16MiB", "-q", "--to-format", format, file).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: group writes %d bytes, want %d, %v", format, len(out), len(want), err)
		}
	}
}

// TestFullOutput checks that a command fails on a full disk even if only its output cannot be written.
func TestFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		procs.Skip(t, "this test needs /dev/full: %v", err)
	}
	defer full.Close()
	dir := t.TempDir()
	url := "file:" + dir + "/store"
	in := program(t, "append", "--store", url, "key")
	in.Stdin = strings.NewReader("value")
	if out, err := in.CombinedOutput(); err != nil {
		t.Fatalf("partd append: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"get", "--store", url, "key"}, {"keys", "--store", url}, {"stat", "--store", url}} {
		cmd := program(t, args...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &stderr
		if code := exitCode(t, cmd.Run()); code != cliutil.ExitFailed || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s to a full device: exit code %d, stderr %s; want code 1 and an error about the space", args, code, stderr.String())
		}
	}
}

// TestTempDirsWithoutName checks that an empty directory name in the value of --tmp is a usage error, wherever it is in
// the list.
func TestTempDirsWithoutName(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, list := range []string{missing + ":", ":" + missing, missing + "::" + missing} {
		if _, err := tempDirs([]string{list}); !cliutil.IsUsage(err) {
			t.Errorf("tempDirs(%q) = %v, want a usage error", list, err)
		}
	}
}
