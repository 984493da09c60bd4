package cli

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestVersions checks that --version, --at and --since select versions with the rows of earlier puts, also if the rows
// are still in the tail of a server, and that an error for a time names times that can be used.
func TestVersions(t *testing.T) {
	for _, place := range []string{"directory", "server"} {
		t.Run(place, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tables")
			flags := []string{"--dir", dir}
			if place == "server" {
				_, u := startServer(t, "--listen", "grpc://localhost:0", "--dir", dir)
				flags = []string{"--server", u.String()}
			}
			run := func(args ...string) string { t.Helper(); return mustRun(t, "", append(args, flags...)...) }
			moment := func() string {
				time.Sleep(3 * time.Millisecond)
				defer time.Sleep(3 * time.Millisecond)
				return time.Now().Format(time.RFC3339Nano)
			}
			var moments []string
			for _, row := range []string{"1", "2", "3"} {
				run("put", "t", writeTemp(t, "t.csv", "n\n"+row+"\n"), "--mode", "append")
				moments = append(moments, moment())
			}
			if got := run("get", "t", "--at", moments[1]); got != "n\n1\n2\n" {
				t.Errorf("get --at printed %q, want rows 1 and 2", got)
			}
			if got := run("sql", "SELECT sum(n) AS n FROM t", "--at", moments[1]); got != "n\n3\n" {
				t.Errorf("sql --at printed %q, want the sum of rows 1 and 2", got)
			}
			version := 0
			for line := range strings.Lines(run("versions", "t", "--json")) {
				var v versionLine
				must.Do(t, json.Unmarshal([]byte(line), &v))
				version = int(v.Version)
				if got := run("get", "t", "--version", strconv.Itoa(version)); int64(strings.Count(got, "\n"))-1 != v.Rows {
					t.Errorf("version %d has rows %q; versions lists %d rows", version, got, v.Rows)
				}
			}
			run("put", "t", writeTemp(t, "t.csv", "n\n4\n"), "--mode", "append")
			if got := run("changes", "t", "--since", strconv.Itoa(version)); got != "n,_change\n4,insert\n" {
				t.Errorf("changes since the last version printed %q, want row 4", got)
			}
		})
	}
}
