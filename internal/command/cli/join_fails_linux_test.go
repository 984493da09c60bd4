package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

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
