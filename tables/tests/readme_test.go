package tables_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// textBetween returns the text of a page between the first occurrence of start and the next occurrence of end.
func textBetween(t *testing.T, file, start, end string) string {
	t.Helper()
	text := must.Get(os.ReadFile(file))(t)
	_, rest, ok := strings.Cut(string(text), start)
	inner, _, hasEnd := strings.Cut(rest, end)
	if !ok || !hasEnd {
		t.Fatalf("%s contains no text between %q and %q", file, start, end)
	}
	return inner
}

// shell runs a script, and returns its output. If the script fails, shell also ends the servers that it started.
func shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	const endServers = `trap 'servers=$(jobs -p); [ -z "$servers" ] || kill $servers || :; wait' EXIT` + "\n"
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", endServers+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	return string(out)
}

// TestReadmeTour checks that the commands in the README, the tour and other pages run as written, and print the
// output shown there.
func TestReadmeTour(t *testing.T) {
	t.Chdir("..")
	bin, dir, readmeDir := filepath.Dir(tabletest.Program(t)), t.TempDir(), t.TempDir()
	for _, name := range []string{"birdstrikes.csv", "airports.csv"} {
		path := must.Get(filepath.Abs(filepath.Join("..", "testdata", name)))(t)
		for _, dir := range []string{dir, readmeDir} {
			must.Do(t, os.Symlink(path, filepath.Join(dir, name)))
		}
	}
	path := "PATH=" + bin + ":" + os.Getenv("PATH")
	var commands, want strings.Builder
	for line := range strings.Lines(textBetween(t, "README.md", "```console\n", "```")) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands.WriteString(command)
		} else {
			want.WriteString(line)
		}
	}
	if got := shell(t, readmeDir, commands.String(), path); got != want.String() || strings.Count(got, "BRK.B") != 1 {
		t.Errorf("the commands in README.md printed\n%s\nwant\n%s", got, want.String())
	}

	each := shell(t, dir, textBetween(t, "docs/each.md", "```sh\n", "```")+"head -2 states.csv; ls parts", path)
	for _, want := range []string{`"rows_read":{"rows":3376}`, "state,n,first\nAK,263,", "part-00001.parquet"} {
		if !strings.Contains(each, want) {
			t.Errorf("the output of docs/each.md does not contain %s:\n%s", want, each)
		}
	}
	out := shell(t, dir, textBetween(t, "docs/tour.md", "[../testdata](../../testdata):\n\n```sh\n", "```"), path)
	for _, want := range []string{"1995-09-19,3811576\n", "sym,price\nBRK.B,700.5\n", "sym,total\nBRK.B,700.5\n", "overwrite", "column Flight Date", "parquet/NYSE/trades.parquet"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output of the tour does not contain %s:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "BRK.B,700.5\n"); n != 3 {
		t.Errorf("the tour puts one row twice and lists it three times: the row occurs %d times in the output, want 3", n)
	}

	if out := shell(t, dir, textBetween(t, "docs/snapshots.md", "```sh\n", "```"), path); !strings.Contains(out, "count_star()\n") || !strings.Contains(out, "before-import") {
		t.Errorf("the first commands in docs/snapshots.md printed %s, want count_star() and before-import", out)
	}
	if out := shell(t, dir, textBetween(t, "docs/snapshots.md", "through an index.\n\n```sh\n", "```"), path); !strings.Contains(out, `["09:30","16:00"]`) || !strings.Contains(out, "NYSE") {
		t.Errorf("the index commands in docs/snapshots.md printed %s, want the hours 09:30 to 16:00 and NYSE", out)
	}

	backup := `printf 'sym,price\nA,1.5\n' | partd-tables put trades - --format csv --bucket NYSE
partd-tables backup --to /mnt/backup --name sunday
`
	page := must.Get(os.ReadFile("docs/backup.md"))(t)
	for _, part := range strings.Split(string(page), "```sh\n")[1:] {
		inner, _, _ := strings.Cut(part, "```")
		if strings.Contains(inner, "--server") {
			backup += `mkdir /mnt/backups
partd-tables serve --dir partd-tables --backup-dir /mnt/backups --listen grpc://localhost:8081 > /mnt/ready & trap 'kill $! || :; wait' EXIT
until [ -s /mnt/ready ]; do sleep 0.1; done
`
		}
		backup += inner
	}
	mnt := t.TempDir()
	l := must.Get(net.Listen("tcp", "localhost:0"))(t)
	backup = strings.ReplaceAll(backup, "localhost:8081", l.Addr().String())
	must.Do(t, l.Close())
	out = shell(t, t.TempDir(), strings.ReplaceAll(backup, "/mnt", mnt)+"partd-tables get trades --bucket NYSE --dir elsewhere\n", path)
	for _, want := range []string{"copied\tNYSE\ttrades\t1 row\n", "sunday", "unchanged\tNYSE\ttrades", "tuesday", "A,1.5\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output of the commands in docs/backup.md does not contain %q:\n%s", want, out)
		}
	}

	series := t.TempDir()
	for _, c := range []struct{ page, dir, beforeCommands, beforeOutput string }{
		{"docs/transform.md", t.TempDir(), "", "prints\n\n"},
		{"docs/changes.md", t.TempDir(), "", "print\n\n"},
		{"docs/pull.md", t.TempDir(), "", "prints\n\n"},
		{"docs/series.md", series, "", "prints\n\n"},
		{"docs/series.md", series, "## Corrections\n\n", "leaves\n\n"},
		{"docs/series.md", series, "at about 128 MB.\n\n", "chosen, and why:\n\n"},
	} {
		got := shell(t, c.dir, textBetween(t, c.page, c.beforeCommands+"```sh\n", "```"), path)
		if c.page == "docs/pull.md" { // other tests' nodes on this machine have tables in the same registry
			got = regexp.MustCompile(`(?m)^.*\tversion .*\n`).ReplaceAllStringFunc(got, func(line string) string {
				if strings.HasPrefix(line, "prices\t") {
					return line
				}
				return ""
			})
		}
		if want := textBetween(t, c.page, c.beforeOutput+"```\n", "```"); got != want {
			t.Errorf("the commands in %s printed\n%s\nwant\n%s", c.page, got, want)
		}
	}
}

// TestAnswers runs the commands of partd-tables in docs/answers.md.
func TestAnswers(t *testing.T) {
	page := string(must.Get(os.ReadFile("../../docs/answers.md"))(t))
	commands := regexp.MustCompile("`(partd-tables [a-z]+ [^`]*)`").FindAllStringSubmatch(page, -1)
	if len(commands) < 12 {
		t.Fatalf("docs/answers.md has the commands %q, want at least 12", commands)
	}
	script := `printf 'sym,time,price,id\nA,1,10,1\nB,2,20,2\nA,3,30,3\n' >t.csv
printf 'sym,time,bid\nA,0,9\nA,2,29\nB,1,19\n' >q.csv
partd-tables convert t.csv -o t.parquet
partd-tables convert q.csv -o q.parquet
`
	for _, c := range commands {
		script += "echo '== " + strings.Fields(c[1])[1] + "'\n" + c[1] + "\n"
	}
	out := shell(t, t.TempDir(), script, "PATH="+filepath.Dir(tabletest.Program(t))+":"+os.Getenv("PATH"))
	for _, want := range []string{"A,40\n", "A,1,10,1,A,0,9\n", "A,3,30,3\n", "A,3,30,3,10\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands of docs/answers.md did not print %q:\n%s", want, out)
		}
	}
}

// TestReadmeModule checks that a user's module next to a clone of this repository builds in both ways that the tour
// shows: with a workspace, which go refuses together with -mod=mod, and with the clone's go.mod.
func TestReadmeModule(t *testing.T) {
	t.Chdir("..")
	clone := must.Get(filepath.Abs(".."))(t)
	tour := func(before string) string {
		return strings.ReplaceAll(textBetween(t, "docs/tour.md", before+":\n\n```sh\n", "```"), "../partd", "'"+clone+"'")
	}
	for name, setup := range map[string]string{
		"workspace": "go mod init example.com/mine\n" + tour("does not need"),
		"go.mod":    tour("the clone's `go.mod`"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			setup += "cp '" + clone + "'/tables/examples/airports/main.go .\n"
			if name == "go.mod" {
				shell(t, dir, setup+"go vet .\n", "GOWORK=") // compiles all, but links nothing
				return
			}
			shell(t, dir, setup+"go build -o program .\n", "GOWORK=", "GOFLAGS="+strings.ReplaceAll(os.Getenv("GOFLAGS"), "-mod=mod", ""))
			if out := shell(t, filepath.Join(clone, "tables"), filepath.Join(dir, "program")); !strings.HasPrefix(out, "AQT Nuiqsut AK\n") {
				t.Errorf("the program printed %s, want AQT in the first line", out)
			}
		})
	}
}
