package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestDamagedTable checks that list, verify and every command that uses a table report its damaged metadata.
// Other tables must still work, and verify must repair the damaged table.
func TestDamagedTable(t *testing.T) {
	t.Chdir(t.TempDir())
	csv := writeTemp(t, "a.csv", "a\n1\n")
	for _, name := range []string{"bad", "good"} {
		mustRun(t, "", "put", name, csv)
		mustRun(t, "", "fold")
	}
	for _, name := range []string{"bad", "good"} {
		mustRun(t, "", "put", name, csv, "--mode", "append")
	}
	must.Do(t, os.CopyFS("copy", os.DirFS("partd-tables")))
	files, err := filepath.Glob("partd-tables/data/*/metadata/*.metadata.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("got metadata files %q, %v, want two", files, err)
	}
	file := files[0] // may belong to either table
	must.Do(t, os.WriteFile(file, make([]byte, len(must.Get(os.ReadFile(file))(t))), 0o666))
	type decodedLine struct {
		tableLine
		Rows int64 `json:"rows"`
	}
	var lines []decodedLine
	d := json.NewDecoder(strings.NewReader(mustRun(t, "", "list", "--json")))
	for d.More() {
		var l decodedLine
		must.Do(t, d.Decode(&l))
		lines = append(lines, l)
	}
	if len(lines) != 2 {
		t.Fatalf("list printed %+v, want two tables", lines)
	}
	damaged, good := lines[0], lines[1]
	if damaged.Damaged == "" {
		damaged, good = good, damaged
	}
	if good.Damaged != "" || good.Rows != 2 || !strings.Contains(damaged.Damaged, file) || !strings.Contains(damaged.Damaged, "verify --repair-from") {
		t.Errorf("list printed %+v, want a table with 2 rows, and a damaged one that names its file", lines)
	}
	if text := mustRun(t, "", "list"); strings.Count(text, "damaged") != 2 || strings.Contains(strings.SplitN(text, "\n", 2)[0], "DAMAGED") {
		t.Errorf("list does not show one damaged table:\n%s", text)
	}
	if out := mustRun(t, "", "get", good.Name); strings.Count(out, "\n") != 3 {
		t.Errorf("get of the undamaged table printed\n%s\nwant three lines", out)
	}
	for _, args := range []string{"get NAME", "put NAME " + csv + " --mode append", "describe NAME", "versions NAME", "fold", "compact", "expire", "snapshot create s --bucket=", "backup --to backup --name monday"} {
		_, stderr, code := command(t, "", strings.Fields(strings.ReplaceAll(args, "NAME", damaged.Name))...)
		if code == 0 || !strings.Contains(stderr, file) || !strings.Contains(stderr, damaged.Name) || !strings.Contains(stderr, "verify --repair-from") {
			t.Errorf("%s: got exit code %d, stderr %s, want an error that names the table, its file and verify --repair-from", args, code, stderr)
		}
	}
	if out, stderr, code := command(t, "", "verify"); code != 1 || !strings.Contains(out, file) {
		t.Errorf("verify: exit code %d, stdout %s, stderr %s, want exit code 1 and the damaged file", code, out, stderr)
	}
	if out := mustRun(t, "", "verify", "--repair-from", "copy"); !strings.Contains(out, "repaired") {
		t.Errorf("verify --repair-from copy printed\n%s\nwant a repaired file", out)
	}
	if out := mustRun(t, "", "get", damaged.Name); strings.Count(out, "\n") != 3 {
		t.Errorf("get of the repaired table printed\n%s\nwant three lines", out)
	}
}

// TestInvalidColumnNames checks that files with an empty, duplicate or invalid column name are refused, in every
// format.
func TestInvalidColumnNames(t *testing.T) {
	t.Chdir(t.TempDir())
	fields := []arrow.Field{{Name: "s", Type: arrow.StructOf(arrow.Field{Name: "", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), Nullable: true}}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	b.Field(0).AppendNull()
	batch := b.NewRecordBatch()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(batch.Schema()))
	must.Do(t, w.Write(batch))
	must.Do(t, w.Close())
	for file, want := range map[string]string{
		writeTemp(t, "a.csv", "a,\n1,2\n"):              `""`,
		writeTemp(t, "b.csv", "a,a\n1,2\n"):             `"a"`,
		writeTemp(t, "c.csv", "a\x00,b\n1,2\n"):         `"a\x00"`,
		writeTemp(t, "a.jsonl", `{"":1}`):               `name`,
		writeTemp(t, "b.jsonl", `{"a":{"":1}}`):         `""`,
		writeTemp(t, "c.jsonl", `{"a":[{"\u0000":1}]}`): `"\x00"`,
		writeTemp(t, "a.arrows", out.String()):          `"s"`,
	} {
		if _, stderr, code := command(t, "", "put", "t", file); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("put %s: got exit code %d, stderr %s, want an error about the column name", filepath.Base(file), code, stderr)
		}
	}
	wantOutput(t, "", "list", "--json")
}

// TestMaximumOfRows checks how commands show a number of rows that is only a maximum.
func TestMaximumOfRows(t *testing.T) {
	t.Chdir(t.TempDir())
	s := must.Get(tables.Open(t.Context(), "partd-tables", &tables.Options{NoTail: true}))(t)
	for _, name := range []string{"exact", "most"} {
		tabletest.Put(t, s.Bucket(""), name, tables.PutAppend, 0, 1, 2)
	}
	engine := tabletest.NewEngine(t, s, "", "most")
	engine.MergeOnRead(2)
	engine.Delete(iceberg.EqualTo(iceberg.Reference("n"), int64(1)))
	must.Do(t, s.Close())
	for _, command := range []string{"list", "describe most", "versions most"} {
		args := strings.Fields(command)
		if text := mustRun(t, "", args...); strings.Count(text, "at most 3") != 1 || strings.Contains(text, "true") {
			t.Errorf("%s printed %q, want at most 3 once", command, text)
		}
		if text := mustRun(t, "", append(args, "--json")...); strings.Count(text, `"rows":3`) != map[string]int{"list": 2, "describe most": 1, "versions most": 2}[command] || strings.Count(text, `"rows_exact":false`) != 1 || strings.Contains(text, `"rows_exact":true`) {
			t.Errorf("%s --json printed %s, want 3 rows, and rows_exact false once", command, text)
		}
	}
	if got := mustRun(t, "", "sql", "SHOW TABLES", "--format", "csv"); !strings.Contains(got, ",exact,3,") || !strings.Contains(got, ",most,,") {
		t.Errorf("SHOW TABLES printed %q, want 3 rows of one table, and none of the other", got)
	}
}

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
				var v struct{ Version, Rows int64 }
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

func TestSnapshotAndMeta(t *testing.T) {
	t.Setenv("PARTD_TABLES_DIR", t.TempDir())
	t.Setenv("PARTD_TABLES_BUCKET", "b")
	mustRun(t, `{"n":1}`, "put", "a", "-", "--format", "jsonl")
	mustRun(t, "", "meta", "set", "a", "text=feed", `quoted="5"`, "number=5", "large=12345678901234567890", `nested={"x":[1,null]}`)
	mustRun(t, "", "meta", "set", "--of-bucket", "k=true")
	wantOutput(t, "one\n", "snapshot", "create", "one")
	mustRun(t, `{"n":2}`, "put", "a", "-", "--format", "jsonl", "--mode", "append")
	mustRun(t, "", "meta", "set", "a", "--remove", "text", "number=6")
	mustRun(t, "", "delete", "a")
	unnamed := strings.TrimSpace(mustRun(t, "", "snapshot", "create"))
	wantOutput(t, "n\n1\n", "get", "a", "--snapshot", "one")
	wantOutput(t, "n\n1\n", "sql", "SELECT sum(n) AS n FROM a", "--snapshot", "one")
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
	wantOutput(t, "KEY  VALUE\nk    true\n", "meta", "get")
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
