package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/flightd"
)

// TestCorrect checks that corrections work the same on a server and in a directory.
func TestCorrect(t *testing.T) {
	series := writeTemp(t, "series.csv", "at,sym,v\n2026-01-01T00:00:00,A,1\n2026-01-01T06:00:00,B,2\n2026-02-02T00:00:00,A,3\n2026-02-02T00:00:00,B,\n")
	better := writeTemp(t, "better.csv", "at,sym,v\n2026-01-01T03:00:00,C,10\n")
	upserts := writeTemp(t, "upserts.jsonl", `{"at":"2026-02-02T00:00:00","sym":"B","v":7}`+"\n"+`{"at":"2026-03-03T00:00:00","sym":"B","v":8}`)
	twice := writeTemp(t, "twice.jsonl", `{"sym":"B"}`+"\n"+`{"sym":"B"}`)
	steps := []struct{ args, want string }{
		{"put series " + series + " --bucket b", "series: 4 rows put, version 1\n"},
		{"delete-rows series --bucket b --where v>1", "series: 2 rows deleted, 0 written, version 2\n"},
		{"delete-rows series --bucket b --where v>1 --json", `{"table":"series","bucket":"b","version":2,"deleted":0,"written":0,"files":0}` + "\n"},
		{"replace-range series " + better + " --bucket b --from 2026-01-01 --to 2026-01-02", "series: 1 rows deleted, 1 written, version 3\n"},
		{"replace-range series " + better + " --bucket b --from 2026-01-02 --to 2026-01-03", "column \"at\": row 1 has the value 2026-01-01T03:00:00"},
		{"replace-range series " + better + " --bucket b --from yesterday", "'yesterday' is not a date or time"},
		{"replace-range series " + better + " --bucket b", "set --from, --to or both"},
		{"replace-range nothing " + better + " --from 2026-01-01", "does not exist"},
		{"upsert series " + upserts + " --bucket b --key at,sym --json", `{"table":"series","bucket":"b","version":4,"deleted":1,"written":2,"files":1}` + "\n"},
		{"upsert series " + twice + " --bucket b --key sym", "rows 1 and 2 have the same key"},
		{"upsert series " + twice + " --bucket b", "name the key columns"},
		{"delete-rows series --bucket b", "--where is required"},
		{"delete-rows series --bucket b --where v>>1", "position 3"},
		{"delete-rows series --bucket b --where x=1", "column \"x\": the table has no such column"},
		{"get series --bucket b --columns sym,v --format csv", "sym,v\nC,10\nB,7\nB,8\n"},
		{"partition series --bucket b --by day", "needs a time column"},
		{"partition series --bucket b", "series: by none, because the files are not divided by time; 0 files instead of 0, version 4\n"},
	}
	url, token := remoteServer(t, flightd.Admin)
	for _, location := range [][]string{{"--dir", filepath.Join(t.TempDir(), "tables")}, {"--server", url, "--token-file", token}} {
		for _, step := range steps {
			args := strings.Fields(step.args)
			out, stderr, code := command(t, "", append(args[:1:1], append(location, args[1:]...)...)...)
			isExact := strings.HasSuffix(step.want, "\n")
			if (code == 0) != isExact || isExact && out+stderr != step.want || !strings.Contains(out+stderr, step.want) {
				t.Errorf("%s %s: exit code %d\n%s%s\nwant %s", location[0], step.args, code, out, stderr, step.want)
			}
		}
	}
	url, token = remoteServer(t, flightd.Read)
	for _, c := range []string{"delete-rows t --where v>1", "partition t --by day"} {
		args := append(strings.Fields(c), "--server", url, "--token-file", token)
		if _, stderr, code := command(t, "", args...); code == 0 || !strings.Contains(stderr, "read") {
			t.Errorf("%s with a read token: stderr %s, want an error about the right to read", c, stderr)
		}
	}
}
