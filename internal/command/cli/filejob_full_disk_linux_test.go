package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestFullDisk checks that if the disk becomes full, a shuffle fails with exit code 1 and a message. The store contains
// only complete records, and can be dropped and used again.
func TestFullDisk(t *testing.T) {
	disk := vfstest.Mount(t, "tmpfs", 4<<20)
	var large bytes.Buffer
	must.Do(t, benchdata.WriteCSV(&large, benchdata.CSVOptions{Rows: 200_000, Keys: 10, Seed: 5}))
	rows := map[string]*strings.Builder{} // the full value of each key
	for line := range strings.SplitAfterSeq(large.String(), "\n") {
		if fields := strings.Split(line, ","); len(fields) > 1 {
			if rows[fields[1]] == nil {
				rows[fields[1]] = new(strings.Builder)
			}
			rows[fields[1]].WriteString(line)
		}
	}
	for _, kind := range []string{"file", "buffer+file", "log"} {
		layer, scheme := "", kind
		if rest, ok := strings.CutPrefix(kind, "buffer+"); ok {
			layer, scheme = "buffer+", rest
		}
		mentions := 1
		if scheme == "log" {
			mentions = 2 // the message names the directory and the file in it
		}
		store := scheme + ":" + filepath.Join(disk, scheme)
		cmd := program(t, "shuffle", "--by=2", "--format=csv", "--memory=16MiB", "--replace", "--store", layer+store, "-")
		cmd.Stdin = bytes.NewReader(large.Bytes())
		out, err := cmd.CombinedOutput()
		first, _, _ := strings.Cut(string(out), "\n")
		if exitCode(t, err) != cliutil.ExitFailed || !strings.HasPrefix(first, "partd: no space left on device: ") ||
			strings.Count(first, disk) != mentions || !strings.Contains(string(out), "\nThe store "+layer+store+" is incomplete") ||
			!strings.HasSuffix(string(out), ". Run the command again with --replace\n") {
			t.Errorf("%s: shuffle to a full disk: %v, output %s; want exit code 1, an error about the space, and advice to run with --replace", kind, err, out)
		}
		list, err := program(t, "keys", "--json", "--store", store).Output()
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: partd keys after the failure: %v, output %s; want some keys", kind, err, list)
		}
		for dec := json.NewDecoder(bytes.NewReader(list)); dec.More(); {
			var k struct{ Key string }
			must.Do(t, dec.Decode(&k))
			value, err := program(t, "get", "--store", store, k.Key).Output()
			if err != nil || !bytes.HasSuffix(value, []byte("\n")) || !strings.HasPrefix(rows[k.Key].String(), string(value)) {
				t.Errorf("%s: the value of %s (%d bytes) is not the beginning of its rows (%v)", kind, k.Key, len(value), err)
			}
		}
		if scheme == "log" {
			if out, err := program(t, "verify", "--store", store).CombinedOutput(); err != nil {
				t.Errorf("partd verify: %v\n%s", err, out)
			}
			value := program(t, "append", "--store", store, "k")
			value.Stdin = strings.NewReader("more")
			if out, err := value.CombinedOutput(); err == nil || !strings.Contains(string(out), "full") {
				t.Errorf("append to a full disk: %v\n%s", err, out)
			}
		}
		if out, err := program(t, "drop", "--store", store).CombinedOutput(); err != nil {
			t.Fatalf("partd drop: %v\n%s", err, out)
		}
		small := program(t, "shuffle", "--by=1", "--format=csv", "--no-header", "--store", layer+store, "-")
		small.Stdin = strings.NewReader("a,1\n")
		if out, err := small.CombinedOutput(); err != nil {
			t.Fatalf("shuffle after the drop: %v\n%s", err, out)
		}
		value, err := program(t, "get", "--store", store, "a").Output()
		if got, _ := csv.NewReader(bytes.NewReader(value)).ReadAll(); err != nil || len(got) != 1 {
			t.Errorf("get after the drop: %q, %v; want one row", value, err)
		}
		if out, err := program(t, "drop", "--store", store).CombinedOutput(); err != nil {
			t.Fatalf("partd drop: %v\n%s", err, out)
		}
	}
}

// TestFullDiskFiles checks that on a full disk (for temporary data or output), commands on files exit with code 1 and
// leave no files.
func TestFullDiskFiles(t *testing.T) {
	disk, roomyDisk := vfstest.Mount(t, "tmpfs", 4<<20), t.TempDir()
	var rows bytes.Buffer
	must.Do(t, benchdata.WriteCSV(&rows, benchdata.CSVOptions{Rows: 200_000, Keys: 1000, Seed: 5}))
	for name, args := range fileCommands {
		for label, dirs := range map[string][2]string{"temporary data": {disk, roomyDisk}, "output": {roomyDisk, disk}} {
			if name == "top" && label == "output" {
				args = append(args, "--number=1000000")
			}
			out := filepath.Join(dirs[1], "out.csv")
			cmd := program(t, append(args, "--format", "csv", "--memory=16MiB", "--tmp", dirs[0], "-o", out, "-")...)
			cmd.Stdin = bytes.NewReader(rows.Bytes())
			text, err := cmd.CombinedOutput()
			if exitCode(t, err) != cliutil.ExitFailed || !strings.HasPrefix(string(text), "partd: no space left on device: ") || strings.Count(string(text), "\n") != 1 {
				t.Errorf("%s with a full disk for the %s: %v, output %s; want exit code 1 and one line about the space", name, label, err, text)
			}
			if strings.Contains(string(text), "set --tmp to a directory on a disk with more space") != (label == "temporary data") {
				t.Errorf("%s with a full disk for the %s: output %s; want advice about --tmp only for temporary data", name, label, text)
			}
			if names := leftoverFiles(t, disk, roomyDisk); names != nil {
				t.Errorf("%s with a full disk for the %s leaves the files %v", name, label, names)
			}
		}
	}
	for flag, dirs := range map[string][2]string{"tmp": {disk, roomyDisk}, "dir": {roomyDisk, disk}} {
		cmd := program(t, "split", "--by", "2", "--format", "csv", "--memory=16MiB", "--tmp", dirs[0], "--dir", filepath.Join(dirs[1], "new"), "-")
		cmd.Stdin = bytes.NewReader(rows.Bytes())
		want := "partd: no space left on device: set --" + flag + " to a directory on a disk with more space: "
		if text, err := cmd.CombinedOutput(); exitCode(t, err) != cliutil.ExitFailed || !strings.HasPrefix(string(text), want) {
			t.Errorf("split with a full disk: %v, output %s; want %s", err, text, want)
		}
	}
}

// TestJoinFails checks that if writing the output fails while all workers have records, the join reports the error
// once, exits with code 1 and leaves no files. Each case runs several times, because the order of the workers varies.
func TestJoinFails(t *testing.T) {
	dir, disk, out := t.TempDir(), vfstest.Mount(t, "tmpfs", 4<<20), t.TempDir()
	write := func(name string, rows int, line func(i int) string) string {
		var text strings.Builder
		for i := range rows {
			text.WriteString(line(i))
		}
		file := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(file, []byte(text.String()), 0o600))
		return file
	}
	const rows = 100_000
	right := write("right.csv", 5000, func(i int) string { return fmt.Sprintf("%d,r%d\n", i, i) })
	wide := write("left.csv", rows, func(i int) string { return fmt.Sprintf("%d,%040d\n", i%5000, i) })
	withTab := write("tab.csv", rows, func(i int) string {
		if i == rows/2 {
			return "7,a\tb\n"
		}
		return fmt.Sprintf("%d,%040d\n", i%5000, i)
	})
	named := write("named.jsonl", rows, func(i int) string { return fmt.Sprintf(`{"1":"%d","a\tb":"%d"}`+"\n", i%5000, i) })
	join := []string{"join", "--on", "1", "--memory", "16MiB", "--threads", "4", "--no-header"}
	full := must.Get(os.OpenFile("/dev/full", os.O_WRONLY, 0))(t)
	defer full.Close()
	const tabError = "cannot be written as tsv: it contains a tab"
	for name, c := range map[string]struct {
		args   []string
		stdout *os.File
		want   string
	}{
		"full device":               {append(join, wide, right), full, "no space left on device: write /dev/stdout"},
		"full disk":                 {append(join, "-o", filepath.Join(disk, "out.csv"), wide, right), nil, "no space left on device: "},
		"field with a tab":          {append(join, "--to-format", "tsv", withTab, right), nil, tabError},
		"field with a tab, to file": {append(join, "--to-format", "tsv", "-o", filepath.Join(out, "out.tsv"), withTab, right), nil, tabError},
		"column name with a tab":    {[]string{"join", "--on", "1", "--threads", "4", "--to-format", "tsv", named, named}, nil, tabError},
	} {
		for range 3 {
			cmd := program(t, c.args...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if c.stdout != nil {
				cmd.Stdout = c.stdout
			}
			code := exitCode(t, cmd.Run())
			if text := stderr.String(); code != cliutil.ExitFailed || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
				t.Errorf("join, %s: exit code %d, %.300s; want one line with the error", name, code, text)
			}
			if names := leftoverFiles(t, disk, out); names != nil {
				t.Errorf("join, %s: leftover files %v", name, names)
			}
		}
	}
	for range 3 {
		cmd := program(t, append(join, wide, right)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if quiet, err := leaveEarly(t, cmd); !quiet || stderr.Len() > 0 {
			t.Errorf("join with a reader that stops early: %v, %.300s; want an end by SIGPIPE without a message", err, stderr.String())
		}
	}
}
