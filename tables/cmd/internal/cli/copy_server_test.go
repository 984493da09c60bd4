package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
)

var ledgerSchema = arrow.NewSchema([]arrow.Field{{Name: "writer", Type: arrow.PrimitiveTypes.Int64}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

// ledgerTables are the tables to which a writer appends each row, in this order. Each append is acknowledged before the
// next.
var ledgerTables = [][2]string{{"", "first"}, {"two", "second"}, {"three", "third"}}

// ledgerWriter appends rows to the ledger's tables until ctx ends, also while the server restarts. acknowledged counts
// the acknowledged appends to each table, attempted the attempted ones, and slowest is the longest time of an append.
type ledgerWriter struct {
	acknowledged, attempted [3]atomic.Int64
	slowest                 atomic.Int64
}

func (w *ledgerWriter) run(ctx context.Context, t *testing.T, server string, id int64) {
	c, err := flightclient.Dial(server, nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	b := array.NewRecordBuilder(memory.DefaultAllocator, ledgerSchema)
	for n := int64(0); ; n++ {
		for i, table := range ledgerTables {
			w.attempted[i].Store(n + 1)
			start := time.Now()
			for {
				b.Field(0).(*array.Int64Builder).Append(id)
				b.Field(1).(*array.Int64Builder).Append(n)
				r, err := array.NewRecordReader(ledgerSchema, []arrow.RecordBatch{b.NewRecordBatch()})
				if err != nil {
					t.Error(err)
					return
				}
				_, err = c.Put(ctx, table[0], table[1], r, tables.PutAppend, &tables.PutOptions{ID: fmt.Sprintf("%d-%d", id, n)})
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					break
				}
				time.Sleep(20 * time.Millisecond) // the server restarts; the id makes a repeated put safe
			}
			w.acknowledged[i].Store(n + 1)
			w.slowest.Store(max(w.slowest.Load(), int64(time.Since(start))))
		}
		time.Sleep(10 * time.Millisecond) // the processor must not be busy all the time
	}
}

// ledgerOf returns the number of rows of each writer in each table of a directory. In each table, the rows of a writer
// must be 0, 1, 2…, each once.
func ledgerOf(t *testing.T, dir string, writers int) [][3]int64 {
	t.Helper()
	s := must.Get(tables.Open(t.Context(), dir, nil))(t)
	defer s.Close()
	counts := make([][3]int64, writers)
	for i, name := range ledgerTables {
		rows := make([]map[int64]int, writers)
		for w := range rows {
			rows[w] = map[int64]int{}
		}
		r := must.Get(s.Bucket(name[0]).Table(name[1]).Scan(t.Context(), nil))(t)
		for r.Next() {
			b := r.RecordBatch()
			for row := range int(b.NumRows()) {
				rows[b.Column(0).(*array.Int64).Value(row)][b.Column(1).(*array.Int64).Value(row)]++
			}
		}
		if r.Release(); r.Err() != nil {
			t.Fatal(r.Err())
		}
		for w := range rows {
			for n := range int64(len(rows[w])) {
				if rows[w][n] != 1 {
					t.Fatalf("table %q has row %d of writer %d %d times, and %d different rows of this writer: want a prefix, each row once", name[1], n, w, rows[w][n], len(rows[w]))
				}
			}
			counts[w][i] = int64(len(rows[w]))
		}
	}
	return counts
}

// TestServerBackupUnderLoad backs up a server while writers append to tables of several buckets. It kills the client
// during one backup, and the server during another. The backup that then succeeds must restore to a state that existed:
// each writer's rows are a prefix that includes all rows acknowledged before the backup, and no row is in a later table
// but not in an earlier one.
func TestServerBackupUnderLoad(t *testing.T) {
	const writers = 6
	dir, backups := t.TempDir(), t.TempDir()
	listen := "grpc://" + net.JoinHostPort("localhost", nettest.FreePort(t))
	start := func() *exec.Cmd {
		cmd, _ := startServer(t, "--listen", listen, "--dir", dir, "--backup-dir", backups)
		return cmd
	}
	server := start()
	large := largeTable(t, 8<<20)
	mustRun(t, "", "put", "large", large, "--server", listen)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	all := make([]ledgerWriter, writers)
	for i := range all {
		running.Go(func() { all[i].run(ctx, t, listen, int64(i)) })
	}
	partial := func() bool { // whether a backup has begun to copy files
		files, _ := filepath.Glob(filepath.Join(backups, "daily", "data", "*", "data", "*"))
		return len(files) > 0
	}
	backup := func(name string, flags ...string) *exec.Cmd {
		return program(append([]string{"backup", "--server", listen, "--to", "daily", "--name", name}, flags...)...)
	}
	time.Sleep(time.Second)
	client := backup("killed", "--rate", "1MB")
	must.Do(t, client.Start())
	waitUntil(t, "the backup copies nothing", partial)
	if out, err := backup("second").CombinedOutput(); err == nil || !strings.Contains(string(out), "already copying") {
		t.Errorf("a second backup at the same time: %v: %s, want an error", err, out)
	}
	_ = client.Process.Kill()
	_ = client.Wait()
	// The backup must end soon after its client, so that another can start.
	client = backup("killed too", "--rate", "1MB")
	waitUntil(t, "the server still runs the backup of a client that was killed", func() bool {
		out, err := backup("", "--rate", "1MB").CombinedOutput()
		return err != nil && strings.Contains(string(out), "needs a name")
	})
	must.Do(t, client.Start())
	time.Sleep(time.Second)
	_ = server.Process.Kill()
	_ = server.Wait()
	if err := client.Wait(); err == nil {
		t.Error("the backup succeeded although the server was killed")
	}
	start()
	time.Sleep(time.Second)
	var before [writers][3]int64
	for w := range before {
		for i := range before[w] {
			before[w][i] = all[w].acknowledged[i].Load()
		}
	}
	for w := range all {
		all[w].slowest.Store(0)
	}
	began := time.Now()
	if out, err := backup("good").CombinedOutput(); err != nil {
		t.Fatalf("backup: %v: %s", err, out)
	}
	t.Logf("the backup took %v", time.Since(began))
	var after [writers][3]int64
	total := int64(0)
	slowest := time.Duration(0)
	for w := range after {
		slowest = max(slowest, time.Duration(all[w].slowest.Load()))
		for i := range after[w] {
			after[w][i] = all[w].attempted[i].Load()
			total += after[w][i] - before[w][i]
		}
	}
	t.Logf("%d appends during the backup, the slowest in %v", total, slowest)
	stop()
	running.Wait()
	if out := mustRun(t, "", "backups", "--dir", filepath.Join(backups, "daily")); strings.Contains(out, "killed") || strings.Count(out, "good") != 3 {
		t.Errorf("backups printed\n%s\nwant only the backup good, of three buckets", out)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	mustRun(t, "", "restore", "--from", filepath.Join(backups, "daily"), "--name", "good", "--dir", restored)
	for w, counts := range ledgerOf(t, restored, writers) {
		for i := range counts {
			if counts[i] < before[w][i] || counts[i] > after[w][i] {
				t.Errorf("table %d has %d rows of writer %d, want between %d and %d", i, counts[i], w, before[w][i], after[w][i])
			}
		}
		if counts[0] < counts[1] || counts[1] < counts[2] || counts[0] > counts[2]+1 {
			t.Errorf("the tables have %v rows of writer %d: a row is in a later table but not in an earlier one", counts, w)
		}
	}
	mustRun(t, "", "verify", "--dir", restored)
}

// largeTable returns a CSV file of about size bytes.
func largeTable(t *testing.T, size int) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("x\n")
	random := rand.New(rand.NewPCG(1, 2))
	for text.Len() < size {
		fmt.Fprintln(&text, random.Float64())
	}
	return writeTemp(t, "large.csv", text.String())
}

// TestCopyOutput checks the text output of commands on copies of one table in the default bucket.
func TestCopyOutput(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	mustRun(t, "", "put", "t", writeTemp(t, "t.csv", "a\n1\n"), "--dir", path("d"))
	for _, c := range []struct{ args, stdout, stderr string }{
		{"backup --name m --dir d --to bk", "copied\t-\tt\t1 row\n", "1 table, 1 file sent (256 bytes)\n"},
		{"restore --name m --from bk --dir r", "copied\t-\tt\t1 row\n", "1 table, 1 file sent (256 bytes)\n"},
		{"copy --from d --to cp", "copied\t-\tt\t1 row\t0fd3841207b6e7cb534a116932758ab1\n", "1 table, 1 file sent (256 bytes)\n"},
		{"backups --dir bk", "\n-       m ", ""},
		{"verify --dir d", "", "1 table, "},
		{"verify --dir damaged", "damaged  -       t ", "partd-tables: 1 file is damaged"},
	} {
		args := strings.Fields(c.args)
		for i, arg := range args {
			if i > 0 && strings.HasPrefix(args[i-1], "--") && args[i-1] != "--name" {
				args[i] = path(arg)
			}
		}
		if strings.HasSuffix(c.args, "damaged") {
			must.Do(t, os.Rename(path("bk"), path("damaged")))
			files, _ := filepath.Glob(path("damaged/data/*/data/*.parquet"))
			must.Do(t, os.WriteFile(files[0], nil, 0o666))
		}
		stdout, stderr, _ := command(t, "", args...)
		if !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || strings.Contains(stdout, `""`) || strings.Contains(stdout, "\t\n") {
			t.Errorf("%s printed\n%s%swant\n%s%s", c.args, stdout, stderr, c.stdout, c.stderr)
		}
	}
}

// copyServer serves a new directory with a directory for copies. It returns the flags of clients, with a token for
// rights.
func copyServer(t *testing.T, dir, backups string) (flags func(flightd.Rights) []string, stop func()) {
	t.Helper()
	secret := writeTemp(t, "secret", "a secret that is long enough for tests")
	cmd, u := startServer(t, "--listen", "grpc://localhost:0", "--dir", dir, "--backup-dir", backups, "--secret-file", secret, "--insecure", "--call-timeout", "2s")
	return func(r flightd.Rights) []string {
		token := must.Get(flightd.NewToken([]byte("a secret that is long enough for tests"), r, u.String(), time.Hour))(t)
		return []string{"--server", u.String(), "--token-file", writeTemp(t, "token", token)}
	}, func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }
}

// TestServerCopies checks that backup, copy, verify and restore on a server print the same as with directories, and
// that only admins may use them, with names only of directories in the server's directory for copies.
func TestServerCopies(t *testing.T) {
	dir, backups := t.TempDir(), t.TempDir()
	flags, stop := copyServer(t, dir, backups)
	admin, read := flags(flightd.Admin), flags(flightd.Read)
	onServer := func(args ...string) (string, string, int) { return command(t, "", append(args, admin...)...) }
	succeed := func(args ...string) string {
		t.Helper()
		out, stderr, code := onServer(args...)
		if code != cliutil.ExitOK {
			t.Fatalf("%q: exit code %d: %s", args, code, stderr)
		}
		return out + stderr
	}
	succeed("put", "birds", birdstrikes)
	succeed("put", "large", largeTable(t, 6<<20), "--bucket", "b")
	// The rate limits the backup, which may take longer than --call-timeout.
	start := time.Now()
	first := succeed("backup", "--to", "daily", "--name", "monday", "--rate", "1MB")
	var size float64
	must.Get(fmt.Sscanf(first[strings.Index(first, "sent (")+6:], "%f", &size))(t)
	if took := time.Since(start).Seconds(); took < size/1e6-0.5 || took > 2*size/1e6+5 {
		t.Errorf("the backup of %.0f bytes at 1 MB/s took %.1f s", size, took)
	}
	t.Logf("%.0f bytes at 1 MB/s took %v", size, time.Since(start))
	if out := succeed("backup", "--to", "daily", "--name", "tuesday"); strings.Count(out, "unchanged") != 2 {
		t.Errorf("the second backup printed\n%s\nwant two unchanged tables", out)
	}
	if out := succeed("backups", "--dir", "daily"); strings.Count(out, "monday") != 2 || strings.Count(out, "tuesday") != 2 {
		t.Errorf("backups printed\n%s\nwant two backups of two buckets", out)
	}
	copied := succeed("copy", "--to", "replica")
	verified := succeed("verify", "--json")

	refused := func(args []string, flags []string, want string) {
		t.Helper()
		if _, stderr, code := command(t, "", append(args, flags...)...); code == cliutil.ExitOK || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d and stderr %s, want an error with %q", args, code, stderr, want)
		}
	}
	refused([]string{"backup", "--to", "daily", "--name", "monday"}, admin, "exists")
	refused([]string{"backup", "--to", "daily", "--name", ""}, admin, "needs a name")
	refused([]string{"backup", "--to", "daily", "--name", "partd hidden"}, admin, "needs a name")
	refused([]string{"backup", "--to", "daily", "--name", "x", "--bucket", "missing"}, admin, "does not exist")
	refused([]string{"restore", "--from", "typo", "--name", "monday"}, admin, `no copies with the name "typo"`)
	refused([]string{"restore", "--from", "daily", "--name", "typo"}, admin, "does not exist")
	refused([]string{"backup", "--to", "daily", "--name", "x", "--to-catalog", "y"}, admin, "cannot be combined")
	refused([]string{"copy", "--from", "x", "--to", "y"}, admin, "--from and --server cannot be combined")
	refused([]string{"copy", "--to", "y"}, nil, "--from and --server are missing")
	t.Setenv("PARTD_TABLES_SERVER", admin[1])
	refused([]string{"backup", "--to", "/x", "--name", "x"}, nil, "to work without a server, set --dir")
	refused([]string{"copy", "--from", filepath.Join(backups, "replica"), "--to", filepath.Join(backups, "replica")}, nil, "the tail is in use")
	t.Setenv("PARTD_TABLES_SERVER", "")
	for _, name := range []string{"", ".", "..", "../x", "/tmp/x", "a/b", `a\b`, ".hidden", "-x", "a\x00b", "x\n", "s3://b/p", "ä", strings.Repeat("x", 101)} {
		for _, args := range [][]string{{"backup", "--name=x", "--to=" + name}, {"copy", "--to=" + name}, {"restore", "--name=x", "--from=" + name}, {"backups", "--dir=" + name}} {
			refused(args, admin, "cannot be the name of a directory")
		}
	}
	for _, args := range [][]string{{"backup", "--to=d", "--name=x"}, {"copy", "--to=d"}, {"restore", "--from=daily", "--name=monday"}, {"backups", "--dir=daily"}, {"verify"}} {
		refused(args, read, "reading only")
	}
	if entries, err := os.ReadDir(backups); err != nil || len(entries) != 2 {
		t.Errorf("the directory for copies contains %v, want only daily and replica", entries)
	}

	// A damaged file is found, and repaired from the backup.
	files, err := filepath.Glob(filepath.Join(dir, "data", "*", "data", "*.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	must.Do(t, os.Truncate(files[0], 10))
	out, stderr, code := onServer("verify", "--json")
	if code != cliutil.ExitFailed || !strings.Contains(out, filepath.Base(files[0])) || !strings.Contains(stderr, "1 file is damaged") {
		t.Errorf("verify: exit code %d, stdout %s, stderr %s, want the damaged file", code, out, stderr)
	}
	if out := succeed("verify", "--repair-from", "daily"); !strings.Contains(out, "1 repaired") {
		t.Errorf("verify --repair-from printed %s, want one repaired file", out)
	}
	succeed("delete", "birds")
	if out := succeed("restore", "--from", "daily", "--name", "monday"); !strings.Contains(out, "birds") {
		t.Errorf("restore printed %s", out)
	}
	succeed("get", "birds", "--limit", "1")
	stop()
	if local, stderr, _ := command(t, "", "copy", "--from", dir, "--to", filepath.Join(t.TempDir(), "copy")); local+stderr != copied {
		t.Errorf("copy of a directory printed\n%s\nof a server\n%s", local+stderr, copied)
	}
	if local, stderr, _ := command(t, "", "verify", "--json", "--dir", filepath.Join(backups, "replica")); !strings.Contains(stderr, "0 damaged") || !strings.Contains(verified, "0 damaged") {
		t.Errorf("verify of the copy printed %s%s, of the server %s", local, stderr, verified)
	}
}

// TestServerBackupDir checks that a server refuses a directory for copies that is missing, or that is not apart from
// the tables.
func TestServerBackupDir(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "tables")
	for _, d := range []string{filepath.Join(dir, "data"), filepath.Join(root, "other")} {
		must.Do(t, os.MkdirAll(d, 0o777))
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for backups, want := range map[string]string{
		dir: "must neither contain", root: "must neither contain", filepath.Join(dir, "data"): "must neither contain", link: "must neither contain", filepath.Join(root, "typo"): "typo",
	} {
		var stderr strings.Builder
		if code := runCommand(ctx, []string{"serve", "--listen", "grpc://localhost:0", "--dir", dir, "--backup-dir", backups}, &app{in: os.Stdin, out: &strings.Builder{}, errOut: &stderr}); code != cliutil.ExitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("serve --backup-dir %s: exit code %d, stderr %s, want an error with %q", backups, code, stderr.String(), want)
		}
	}
	if ctx.Err() != nil {
		t.Error(errors.New("a server started"))
	}
}
