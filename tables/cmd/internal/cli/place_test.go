package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // the program also imports it
)

// remoteServer serves a new directory. It returns the server's URL and the path of a file with a token.
func remoteServer(t *testing.T, rights flightd.Rights) (url, tokenFile string) {
	t.Helper()
	engine := must.Get(duck.New(nil))(t)
	store := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: engine}))(t)
	secret := []byte("a secret that is long enough for tests")
	server := must.Get(flightd.New(store, &flightd.Options{Secret: secret, Grace: time.Second}))(t)
	address, _ := nettest.Serve(t, server.Serve, store, engine)
	url = "grpc://" + address
	token := must.Get(flightd.NewToken(secret, rights, url, time.Hour))(t)
	return url, writeTemp(t, "token", token+"\n")
}

var (
	timePattern = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z?`)
	sizePattern = regexp.MustCompile(`"(metadata_)?bytes":\d+|metadata_bytes +\d+`)
)

// TestRemoteLikeLocal checks that every command prints the same output for a server as for a directory.
func TestRemoteLikeLocal(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many commands")
	}
	more := writeTemp(t, "more.jsonl", `{"Flight Date":"2030-01-01"}`)
	series := writeTemp(t, "series.csv", "at,v\n2026-01-01T00:00:00,1\n2026-01-01T00:00:05,2\n2026-01-01T00:00:25,3\n,4\n")
	ticks := writeTemp(t, "ticks.csv", "at,sym,v\n2026-01-03T00:00:00,A,1\n2026-01-01T00:00:00,A,2\n2026-01-01T00:00:00,B,3\n2026-01-01T00:00:00,A,4\n")
	semicolons := writeTemp(t, "apart.csv", "a;b\n1;x,y\n")
	commands := []string{
		"put birds " + birdstrikes,
		"put birds " + birdstrikes, // the table exists
		"put birds " + more + " --mode append --id x",
		"put birds " + more + " --mode append --id x",
		"put series " + series + " --bucket b",
		"put series " + series + " --bucket b --mode replace",
		"put series " + birdstrikes + " --bucket b --mode append", // the columns do not match
		"evolve series --bucket b --add w:int16 --rename v:value", "evolve series --bucket b --rename value:v --widen w:int64", "evolve series --bucket b --widen w:int8",
		"evolve series --bucket b --drop w", "evolve series --bucket b --drop v --mode compatible", "evolve series --bucket b", "evolve series --bucket b --mode lax", "evolve nothing --add a:int8",
		`rules add series {"name":"few","kind":"range","column":"v","max":"99"} --bucket b`, "rules add --set prices --whole-bucket --bucket other",
		"rules list series --bucket b", "rules list series --bucket b --json", "rules list --whole-bucket --bucket other", "rules list nothing",
		"put series " + writeTemp(t, "many.csv", "at,v\n2026-01-01T00:00:01,100\n") + " --bucket b --mode append", // a rule refuses it
		"rules disable series few --bucket b", "rules enable series few --bucket b", "rules list series --bucket b", "rules remove series few --bucket b", "rules remove series few --bucket b",
		"rules add series --bucket b", "rules add series {} --bucket b", "rules", "rules forget series",
		"list", "list --json", "list s* --bucket b", "buckets", "buckets --json",
		"describe series --bucket b --json", "describe nothing",
		"fold", "versions series --bucket b", "compact --bucket b", "expire --older-than 1h",
		`get birds --columns Speed --limit 7 --format csv`,
		`get birds --format jsonl`, "get nothing",
		"get series --bucket b --version 1", "get series --bucket b --version 99",
		"get series --bucket b --where v>1", "get series --bucket b --where v>>1", "get series --bucket b --where x=1",
		"sql SELECT\u00a0count(*)\u00a0AS\u00a0n,\u00a0sum(v)\u00a0AS\u00a0s\u00a0FROM\u00a0series --bucket b",
		"sql SELECT\u00a0v\u00a0FROM\u00a0series --bucket b --version 1",
		"sql SELECT\u00a01\u00a0FROM\u00a0nothing", "sql SELEKT",
		"resample series bins --bucket b --rule 10s --time at --func sum --mode error", "get bins --bucket b",
		"resample series --bucket b --rule 10s --time at --func sum", "resample series --bucket b --sql SELECT\u00a0sum(v)\u00a0AS\u00a0s\u00a0FROM\u00a0series --format jsonl",
		"resample nothing --rule 10s --time at --func sum", "resample ticks --rule 10s --time sym --func size",
		"resample series totals --bucket b --sql SELECT\u00a0sum(v)\u00a0AS\u00a0s\u00a0FROM\u00a0series", "get totals --bucket b",
		"combine series series both --bucket b", "get both --bucket b",
		"clean both --bucket b --drop-nulls at", "get both --bucket b",
		"put ticks " + ticks + " --time at --key sym --on-duplicate keep_last", "put ticks " + ticks + " --mode append",
		"get ticks", "head ticks -n 2", "tail ticks -n 1 --json", "tail ticks --columns v", "head nothing", "tail ticks -n 0",
		"settings ticks", "settings ticks --on-duplicate error", "put ticks " + ticks + " --mode append",
		"settings ticks --time v", "settings nothing", "get ticks",
		"snapshot create one --bucket b --json", "snapshot create one --bucket b", "snapshot create --bucket nothing",
		`meta set series source=feed lots=5 list=[1,{"a":null}] text="5" --bucket b`, "meta set nothing a=b", "meta set series a",
		"meta get series --bucket b", "meta get series --bucket b --json", "meta get series --bucket b --snapshot one --json",
		"meta set --of-bucket of=bucket gone=1 --bucket b", "meta set --of-bucket --remove gone --bucket b", "meta get --bucket b", "meta get --bucket nothing", "meta set --of-bucket --bucket made", "meta get --bucket made", "verify --json --bucket made", "verify birds", "put apart " + semicolons + " --sep ; --bucket b", "get apart --bucket b", "put apart " + semicolons + " --sep ab --bucket b", "delete apart --bucket b",
		"meta find lots=5.0 source=feed", "meta find text=5", `meta find text="5" --bucket b --json`, `meta find list=[1,{"a":null}]`, "meta find a",
		"put series " + series + " --bucket b --mode append", "get series --bucket b --snapshot one", "describe series --bucket b --snapshot one",
		"sql SELECT\u00a0count(*)\u00a0AS\u00a0n\u00a0FROM\u00a0series --bucket b --snapshot one", "get series --bucket b --snapshot two",
		"delete series --bucket b", "sql SELECT\u00a0count(*)\u00a0AS\u00a0n\u00a0FROM\u00a0SERIES --bucket b --snapshot one",
		"list --bucket b --snapshot one", "list --snapshot one", "snapshot list --bucket b", "snapshot list --bucket b --json",
		"snapshot restore one nothing --bucket b", "snapshot restore one series --bucket b", "get series --bucket b",
		"snapshot restore one --bucket b", "meta get --bucket b --json", "snapshot delete --bucket b", "snapshot delete one one --bucket b",
		"snapshot delete --all --bucket b", "snapshot list --bucket b --json", "snapshot restore one --bucket b", "describe series --bucket b",
		"delete both nothing --bucket b", "delete both bins totals --bucket b", "list",
	}
	run := func(location ...string) (outputs []string) {
		for _, c := range commands {
			args := strings.Fields(strings.ReplaceAll(c, "\u00a0", "\x00"))
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "\x00", " ")
			}
			words := 1
			if args[0] == "snapshot" || args[0] == "meta" {
				words = 2
			}
			args = append(args[:words:words], append(location, args[words:]...)...)
			out, stderr, code := command(t, "", args...)
			outputs = append(outputs, c+"\n"+sizePattern.ReplaceAllString(timePattern.ReplaceAllString(out+stderr, "TIME"), "BYTES")+exitText(code))
		}
		return outputs
	}
	url, token := remoteServer(t, flightd.Admin)
	remote := run("--server", url, "--token-file", token)
	local := run("--dir", filepath.Join(t.TempDir(), "tables"))
	// A listing's sizes, the sizes of metadata and the version of a put depend on when the store folds, and on its
	// path.
	bytes := regexp.MustCompile(`\d+ +TIME|\(\d+ bytes\)|put, version \d+`)
	failed := 0
	for i := range local {
		if !strings.HasSuffix(local[i], "exit code 0") {
			failed++
		}
		l, r := bytes.ReplaceAllString(local[i], "TIME"), bytes.ReplaceAllString(remote[i], "TIME")
		if l != r {
			t.Errorf("output from a directory: %s\nfrom a server: %s", truncate(l), truncate(r))
		}
	}
	if got := local[slices.Index(commands, "get ticks")]; !strings.Contains(got, "at,sym,v\n2026-01-01T00:00:00,A,4\n2026-01-01T00:00:00,B,3\n2026-01-03T00:00:00,A,1\n") {
		t.Errorf("get ticks: rows are not ordered by time, or contain duplicates: %s", got)
	}
	if failed != 42 {
		t.Errorf("%d commands failed, want 42", failed)
	}
}

func exitText(code int) string { return "exit code " + string(rune('0'+code)) }

func truncate(s string) string { return s[:min(len(s), 2000)] }

func TestRemoteExportImport(t *testing.T) {
	url, token := remoteServer(t, flightd.Admin)
	t.Setenv("PARTD_TABLES_SERVER", url)
	t.Setenv("PARTD_TABLES_TOKEN_FILE", token)
	target := t.TempDir()
	mustRun(t, "", "put", "birds", birdstrikes)
	mustRun(t, "{\"a\":1}", "put", "x", "-", "--format", "jsonl", "--bucket", "b")
	if out := mustRun(t, "", "export", target); strings.Count(out, "\n") != 2 {
		t.Errorf("export printed\n%s\nwant two lines, one for each table", out)
	}
	mustRun(t, "", "delete", "birds")
	if out := mustRun(t, "", "import", "--from", "shoots", target); !strings.Contains(out, "imported\t-\tbirds\t10000 rows") || !strings.Contains(out, "unchanged\tb\tx\t1 row") {
		t.Errorf("import --from shoots printed\n%s\nwant birds imported with 10000 rows, and x unchanged with 1 row", out)
	}
	// The flag --dir overrides the environment variable of --server.
	wantFailure(t, cliutil.ExitFailed, "no tables", "list", "--dir", filepath.Join(target, "none"))
}

func TestRemoteErrors(t *testing.T) {
	url, read := remoteServer(t, flightd.Read)
	junk := writeTemp(t, "ca.pem", "junk")
	dir := t.TempDir()
	for _, c := range []struct {
		args string
		code int
		text string
	}{
		{"put x " + birdstrikes + " --token-file " + read, cliutil.ExitFailed, "reading only"},
		{"resample x y --sql x --token-file " + read, cliutil.ExitFailed, "reading only"},
		{"resample x --rule s --time t --func size --token-file " + read, cliutil.ExitFailed, "does not exist"},
		{"delete x --token-file " + read, cliutil.ExitFailed, "reading only"},
		{"fold --token-file " + read, cliutil.ExitFailed, "reading only"},
		{"list", cliutil.ExitFailed, url},
		{"list --token-file " + junk, cliutil.ExitFailed, url},
		{"list --token-file " + filepath.Join(dir, "none"), cliutil.ExitFailed, "none"},
		{"list --ca " + junk, cliutil.ExitFailed, "no PEM certificate"},
		{"list --dir " + dir, cliutil.ExitUsage, "dir"},
		{"list --server http://x", cliutil.ExitUsage, "scheme"},
		{"list --server localhost:8081", cliutil.ExitUsage, "grpc://"},
		{"list --server grpc://example.org --token-file " + read, cliutil.ExitUsage, "without TLS"},
	} {
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--server") {
			args = append(args, "--server", url)
		}
		if _, stderr, code := command(t, "", args...); code != c.code || !strings.Contains(stderr, c.text) {
			t.Errorf("%s: got exit code %d and an unexpected message: %s", c.args, code, stderr)
		}
	}
	if out := mustRun(t, "", "list", "--server", url, "--token-file", read); strings.Count(out, "\n") != 1 {
		t.Errorf("list with a read token printed\n%s\nwant one line", out)
	}
	text := must.Get(os.ReadFile(read))(t)
	if _, stderr, _ := command(t, "", "list", "--server", "grpc://127.0.0.1:1", "--token-file", read); strings.Contains(stderr, strings.TrimSpace(string(text))) || !strings.Contains(stderr, "127.0.0.1:1") {
		t.Errorf("list from an unreachable server: stderr %q, want the address and not the token", stderr)
	}
}

// TestTornTail checks that a command says so if it drops an incomplete record at the end of the tail, because the
// record may have been acknowledged.
func TestTornTail(t *testing.T) {
	dir, torn := t.TempDir(), filepath.Join(t.TempDir(), "torn")
	store := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	for n := range int64(3) {
		tabletest.Put(t, store.Bucket(""), "t", tables.PutAppend, n)
	}
	must.Do(t, os.CopyFS(torn, os.DirFS(dir))) // as a killed process leaves it
	logs := must.Get(filepath.Glob(filepath.Join(torn, "tail", "wal-*")))(t)
	for _, file := range logs {
		log := must.Get(os.ReadFile(file))(t)
		if used := len(bytes.TrimRight(log, "\x00")); used > 0 {
			log[used-1] ^= 1
			must.Do(t, os.WriteFile(file, log, 0o600))
		}
	}
	out, stderr, code := command(t, "", "get", "t", "--dir", torn, "--format", "csv")
	if code != cliutil.ExitOK || out != "n,s\n0,row 0\n1,row 1\n" || !strings.Contains(stderr, "partd-tables: warning: logstore: skipped a torn record") {
		t.Errorf("get of a table whose tail is torn: exit code %d, rows %q, standard error %q, want two rows and a warning", code, out, stderr)
	}
}

// TestReadOnly reads a directory while another process has it open. Both flags that the error of a reading command names
// must work. A command that changes tables must not offer --read-only.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	_, url := startServer(t, "--listen", "grpc://localhost:0", "--dir", dir)
	server := "--server " + url.String()
	mustRun(t, "n\n1\n", "put", "t", "-", "--format", "csv", "--mode", "append", "--server", url.String())
	wantFailure(t, cliutil.ExitFailed, "read-only: use --read-only or "+server+"\n", "get", "t", "--dir", dir)
	wantFailure(t, cliutil.ExitFailed, "read-only: use "+server+"\n", "delete", "t", "--dir", dir)
	wantOutput(t, "n\n1\n", "get", "t", "--dir", dir, "--read-only")
	wantOutput(t, "n\n1\n", "get", "t", "--server", url.String())
	wantOutput(t, "n\n2\n", "sql", "select n + 1 n from t", "--dir", dir, "--read-only")
	wantOutput(t, `{"bucket":""}`+"\n", "buckets", "--json", "--dir", dir, "--read-only")
	wantFailure(t, cliutil.ExitFailed, "the tables are open only for reading", "settings", "t", "--keep-versions", "3", "--dir", dir, "--read-only")
	wantFailure(t, cliutil.ExitUsage, "applies only to a SELECT", "sql", "delete from t", "--dir", dir, "--read-only")
	wantFailure(t, cliutil.ExitUsage, "cannot be combined", "list", "--read-only", "--server", url.String())
	withoutServer := t.TempDir()
	tabletest.Open(t, withoutServer, nil)
	wantFailure(t, cliutil.ExitFailed, "read-only: use --read-only\n", "list", "--dir", withoutServer)
	wantFailure(t, cliutil.ExitFailed, "this command has no read-only mode\n", "delete", "t", "--dir", withoutServer)
	t.Setenv("PARTD_TABLES_READ_ONLY", "true")
	mustRun(t, "", "list", "--server", url.String())
	mustRun(t, "", "list", "--dir", dir)
}

// TestReadingCommands checks that exactly those commands have --read-only that can run without changing tables.
func TestReadingCommands(t *testing.T) {
	// changes to rows do not go through package operations
	want := map[string]bool{"get": true, "head": true, "tail": true, "changes": true, "sql": true, "export": true, "meta find": true, "serve": true}
	for _, o := range operations.All() {
		if !o.Writes && o.Slots != operations.CopySlot && o.Command != "" {
			want[o.Command] = true
		}
	}
	got := map[string]bool{}
	var visit func(*cobra.Command, string)
	visit = func(cmd *cobra.Command, path string) {
		if cmd.Flags().Lookup("read-only") != nil {
			got[path] = true
		}
		for _, c := range cmd.Commands() {
			visit(c, strings.TrimSpace(path+" "+c.Name()))
		}
	}
	visit(Root(), "")
	if !maps.Equal(got, want) {
		t.Errorf("commands with --read-only: %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// TestMissingCatalog removes the catalog's files. Commands must say that the catalog is damaged, and verify --rebuild
// must make a new one.
func TestMissingCatalog(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PARTD_TABLES_DIR", dir)
	mustRun(t, "n\n1\n", "put", "t", "-", "--format", "csv")
	for _, file := range must.Get(filepath.Glob(filepath.Join(dir, "catalog.db*")))(t) {
		must.Do(t, os.Remove(file))
	}
	for _, args := range [][]string{{"list"}, {"sql", "select 1"}, {"verify"}} {
		wantFailure(t, cliutil.ExitFailed, "catalog.db: the file is damaged: file does not exist; run verify --rebuild", args...)
	}
	wantFailure(t, cliutil.ExitFailed, "catalog.db is missing", "list", "--read-only")
	mustRun(t, "", "verify", "--rebuild")
	if out := mustRun(t, "", "list", "--json"); !strings.Contains(out, `"rows":1`) {
		t.Errorf("list after a rebuild printed %s, want the table with its row", out)
	}
	empty := t.TempDir()
	wantFailure(t, cliutil.ExitFailed, "contains no tables", "verify", "--rebuild", "--dir", empty)
}

func runIn(t *testing.T, input string, args ...string) string {
	t.Helper()
	inputFile := filepath.Join(t.TempDir(), "in")
	must.Do(t, os.WriteFile(inputFile, []byte(input), 0o600))
	f, err := os.Open(inputFile)
	must.Do(t, err)
	defer f.Close()
	var out, errs strings.Builder
	if code := runCommand(context.Background(), args, &app{in: f, out: &out, errOut: &errs}); code != 0 {
		t.Fatalf("%q: stderr %s", args, errs.String())
	}
	return out.String()
}

// TestWarehouse checks that the commands, pyiceberg and DuckDB can use one warehouse, and that each sees the
// changes of the others.
func TestWarehouse(t *testing.T) {
	python := procs.Python(t, "warehouse")
	g, db := procs.StartGateway(t), procs.StartPostgres(t)
	location := []string{
		"--dir", fmt.Sprintf("s3://bucket/house?endpoint=http://%s", g.Addr), "--catalog", db.URL(),
		"--cache-dir", t.TempDir(), "--cache-size", "10MB",
	}
	do := func(input string, args ...string) string { return runIn(t, input, append(args, location...)...) }
	do("n\n1\n2\n", "put", "x", "-", "--format", "csv", "--bucket", "b")
	do("n\n3\n", "put", "x", "-", "--format", "csv", "--bucket", "b", "--mode", "append")
	peer := func() string {
		cmd := exec.CommandContext(t.Context(), python, "testdata/warehouse_peer.py", db.URL(), "http://"+g.Addr, "s3://bucket/house", "b.x")
		cmd.Stderr = os.Stderr
		return string(must.Get(cmd.Output())(t))
	}
	if got, want := peer(), "[1, 2, 3]\n[(3, 6)]\n"; got != want {
		t.Errorf("pyiceberg and DuckDB read %s, want %s", got, want)
	}
	if got := do("", "get", "x", "--bucket", "b"); !strings.Contains(got, "1000") || strings.Count(got, "\n") != 5 {
		t.Errorf("get x: got %s, want 4 rows with the peer's row 1000", got)
	}
	do("n\n4\n", "put", "x", "-", "--format", "csv", "--bucket", "b", "--mode", "append", "--tail", t.TempDir()+"/tail")
	if got := do("", "sql", "SELECT sum(n)::BIGINT AS s FROM x", "--bucket", "b"); got != "s\n1006\n" {
		t.Errorf("sql = %q, want the sum of the folded rows, without unfolded rows of another process", got)
	}
	do("", "expire", "--older-than", "0s")
	if got, want := peer(), "[1, 2, 3, 1000]\n[(4, 1006)]\n"; got != want {
		t.Errorf("after expire, pyiceberg and DuckDB read %s, want %s", got, want)
	}
	if got := do("", "list"); !strings.Contains(got, "x") {
		t.Errorf("list = %s, want table x", got)
	}
	var errs strings.Builder
	if code := runCommand(t.Context(), []string{"list", "--dir", "s3://bucket/house"}, &app{in: os.Stdin, out: &errs, errOut: &errs}); code == 0 || !strings.Contains(errs.String(), "need a catalog") {
		t.Errorf("list without --catalog: exit code %d, stderr %q, want an error about the catalog", code, errs.String())
	}
}
