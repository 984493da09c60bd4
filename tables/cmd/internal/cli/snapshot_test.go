package cli

import (
	"strings"
	"testing"
)

func TestSnapshotAndMeta(t *testing.T) {
	t.Setenv("PARTD_TABLES_DIR", t.TempDir())
	t.Setenv("PARTD_TABLES_BUCKET", "b")
	mustRun(t, `{"n":1}`, "put", "a", "-", "--format", "jsonl")
	mustRun(t, "", "meta", "set", "a", "text=feed", `quoted="5"`, "number=5", "large=12345678901234567890", `nested={"x":[1,null]}`)
	mustRun(t, "", "meta", "set", "--of-bucket", "k=true")
	if out := mustRun(t, "", "snapshot", "create", "one"); out != "one\n" {
		t.Errorf("snapshot create one: got %q, want %q", out, "one\n")
	}
	mustRun(t, `{"n":2}`, "put", "a", "-", "--format", "jsonl", "--mode", "append")
	mustRun(t, "", "meta", "set", "a", "--remove", "text", "number=6")
	mustRun(t, "", "delete", "a")
	unnamed := strings.TrimSpace(mustRun(t, "", "snapshot", "create"))
	if out := mustRun(t, "", "get", "a", "--snapshot", "one"); out != "n\n1\n" {
		t.Errorf("get a --snapshot one: got %q, want %q", out, "n\n1\n")
	}
	if out := mustRun(t, "", "sql", "SELECT sum(n) AS n FROM a", "--snapshot", "one"); out != "n\n1\n" {
		t.Errorf("sql: got %q, want %q", out, "n\n1\n")
	}
	mustRun(t, "", "snapshot", "restore", "one")
	out := mustRun(t, "", "meta", "get", "a", "--json")
	if before, _, _ := strings.Cut(out, `"_updated"`); !strings.HasPrefix(out, `{"_updated":`) || before != "{" ||
		!strings.HasSuffix(out, `,"large":12345678901234567890,"nested":{"x":[1,null]},"number":5,"quoted":"5","text":"feed"}`+"\n") {
		t.Errorf("meta get a --json printed\n%s\nwant _updated and the metadata that was set, with unchanged numbers", out)
	}
	for want, args := range map[string][]string{
		"a": {"number=5.0"}, "a a": {"large=12345678901234567890", "text=feed"}, "a a a": {`quoted="5"`, `nested={"x": [1, null]}`},
		"": {"quoted=5"}, " ": {"large=12345678901234567891"}, "  ": {"number=5", "text=other"}, "   ": {"number=6"},
	} {
		want, _, _ = strings.Cut(want, " ")
		out := mustRun(t, "", append([]string{"meta", "find", "--json"}, args...)...)
		if strings.Contains(out, `"name":"a"`) != (want == "a") {
			t.Errorf("meta find %q = %q, want table %q", args, out, want)
		}
	}
	if out := mustRun(t, "", "meta", "get"); out != "KEY  VALUE\nk    true\n" {
		t.Errorf("meta get: got %q, want %q", out, "KEY  VALUE\nk    true\n")
	}
	out = mustRun(t, "", "snapshot", "list", "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], `{"bucket":"b","name":"one","time":"`) || !strings.HasSuffix(lines[0], `Z","tables":1,"metadata":{"k":true}}`) ||
		!strings.Contains(lines[1], `"name":"`+unnamed+`"`) || !strings.Contains(lines[1], `"tables":0`) {
		t.Errorf("snapshot list --json printed\n%s\nwant the snapshots one, with one table, and %s, with none", out, unnamed)
	}
	mustRun(t, "", "snapshot", "delete", "one", "nothing")
	if out := mustRun(t, "", "snapshot", "list"); strings.Contains(out, "one") || !strings.Contains(out, unnamed) {
		t.Errorf("snapshot list printed\n%s\nwant %s, but not the deleted snapshot one", out, unnamed)
	}
}
