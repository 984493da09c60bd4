// Package docs_test tests the pages, and what they say about the repository.
package docs_test

import (
	"context"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// docPages returns the documents whose commands and code are run.
func docPages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	if err != nil || len(names) < 5 {
		t.Fatalf("docs has the pages %q (error %v), want at least 5", names, err)
	}
	dev, err := filepath.Glob("docs/dev/*.md")
	if err != nil || len(dev) < 5 {
		t.Fatalf("docs/dev has the pages %q (error %v), want at least 5", dev, err)
	}
	return append(append(names, dev...), "README.md")
}

// block is a fenced code block of a document.
type block struct {
	line           int
	language, text string
}

// blocksOf returns the blocks of a document. Each must have a language. Tests run "sh" and "python"
// blocks. In a "console" block, they run the lines that begin with $, and compare the output with the
// other lines, in which … stands for any text. A "go" program becomes main.go; other "go" code must be
// part of a test. "text" and "ini" blocks are not run.
func blocksOf(t *testing.T, name string) (blocks []block) {
	t.Helper()
	text := must.Get(os.ReadFile(name))(t)
	var current *block
	blank, n := true, 0
	for line := range strings.Lines(string(text)) {
		n++
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && current == nil:
			current = &block{n, strings.TrimSpace(language), ""}
			if !slices.Contains([]string{"sh", "console", "python", "go", "text", "ini"}, current.language) {
				t.Errorf("%s:%d: a block has the unknown language %q: use sh, console, python, go, text or ini", name, n, current.language)
			}
		case fence:
			blocks = append(blocks, *current)
			current = nil
		case current != nil:
			current.text += line
		case blank && strings.HasPrefix(line, "    "):
			t.Errorf("%s:%d: an indented code block: use a fence with a language", name, n)
		}
		blank = strings.TrimSpace(line) == ""
	}
	return blocks
}

// preamble makes bash run a page's commands as if the reader had cloned the repository, with the built
// programs. Servers run in the background, as if in another terminal.
const preamble = `set -e
exec 2>&1
trap 'kill $servers 2>/dev/null || true; wait' EXIT
go() {
	case "$*" in
	"run ./cmd/partd "*) shift 2; partd "$@" ;;
	"test ./..." | "install ./cmd/"*) ;; # the tests are running, and the programs are already built
	*) command go "$@" ;;
	esac
}
partd-server() {
	if [ "$1" = token ]; then command partd-server "$@"; return; fi
	rm -f ready # left by an earlier server
	command partd-server "$@" >ready 2>log &
	servers="$servers $!"
	until grep -qs ready ready; do kill -0 $! || { cat log; exit 1; }; sleep 0.05; done
	cat ready
}
`

// scriptOf returns a script that runs a page's blocks, and the expected output of each command in its
// console blocks. The script prints the line "<<i>>" before the output of command i.
func scriptOf(page string, blocks []block, python bool) (script string, want []string) {
	for _, b := range blocks {
		switch {
		case b.language == "sh":
			script += b.text
		case b.language == "python" && python:
			script += "/usr/bin/python3 - <<'END OF PYTHON'\n" + b.text + "END OF PYTHON\n"
		case b.language == "go" && strings.HasPrefix(b.text, "package main\n"):
			script += "cat >main.go <<'END OF GO'\n" + b.text + "END OF GO\n"
		case b.language == "console":
			for line := range strings.Lines(b.text) {
				if command, isCommand := strings.CutPrefix(line, "$ "); isCommand {
					script += fmt.Sprintf("echo '<<%d>>'\n%s", len(want), command)
					want = append(want, "")
				} else {
					want[len(want)-1] += line
				}
			}
			script += fmt.Sprintln("echo '<<end>>'")
		}
	}
	return script, want
}

// TestDocs runs the commands and programs in README.md and docs, and compares their output.
func TestDocs(t *testing.T) {
	procs.LookPath(t, "bash")
	root := must.Get(os.Getwd())(t)
	programDir := buildCommands(t)
	hasPython := exec.Command("/usr/bin/python3", "-c", "import partd, zmq").Run() == nil
	if !hasPython {
		t.Run("python", func(t *testing.T) { procs.Skip(t, "the pages' Python code needs Python with partd and zmq") })
	}
	for _, page := range docPages(t) {
		t.Run(page, func(t *testing.T) {
			script, want := scriptOf(page, blocksOf(t, page), hasPython)
			if script == "" {
				return
			}
			dir, address := t.TempDir(), "127.0.0.1:"+nettest.FreePort(t)
			replacer := strings.NewReplacer("127.0.0.1:7077", address, "127.0.0.1:7078", "127.0.0.1:"+nettest.FreePort(t), "127.0.0.1:7079", "127.0.0.1:"+nettest.FreePort(t))
			must.Do(t, os.Symlink(filepath.Join(root, "testdata"), filepath.Join(dir, "testdata")))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-c", preamble+replacer.Replace(script))
			cmd.Dir, cmd.WaitDelay = dir, time.Second
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PARTD_") })
			cmd.Env = append(cmd.Env, "PATH="+programDir+":"+os.Getenv("PATH"), "PARTD_SERVER_LISTEN=tcp://"+address, "DIR="+root)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("the page's script failed: %v\nscript:\n%s\noutput:\n%s", err, script, out)
			}
			output := strings.ReplaceAll(string(out), address, "127.0.0.1:7077")
			for i, want := range want {
				_, got, _ := strings.Cut(output, fmt.Sprintf("<<%d>>\n", i))
				got, _, _ = strings.Cut(got, "<<")
				if !regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", "(?s:.*)") + "$").MatchString(got) {
					t.Errorf("the output of a command is\n%s\nwant, from %s,\n%s", got, page, want)
				}
			}
		})
	}
	t.Run("names", func(t *testing.T) { checkNames(t, programDir) })
}

// buildCommands returns a directory with the programs that pages run. TestMain makes partd and partd-server of links to
// the test binary.
func buildCommands(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	procs.Link(t, dir, "partd", "partd-server")
	if out, err := exec.Command("go", "build", "-o", dir, "./examples/tasks").CombinedOutput(); err != nil {
		t.Fatalf("building the example: %v\n%s", err, out)
	}
	return dir
}

// TestDocsGo checks that Go code in pages is formatted, and that code that is not a complete program
// appears in one of the test files listed below, which compile and run it.
func TestDocsGo(t *testing.T) {
	var source string
	for _, name := range []string{"docs/docs_test.go", "shuffle/example_test.go", "shuffle/example_join_test.go", "encode/example_test.go"} {
		text := must.Get(os.ReadFile(name))(t)
		source += string(text)
	}
	flat := strings.ReplaceAll(source, "\n\t", "\n")
	for _, page := range docPages(t) {
		for _, b := range blocksOf(t, page) {
			if b.language != "go" {
				continue
			}
			if formatted, err := format.Source([]byte(b.text)); err != nil || string(formatted) != b.text {
				t.Errorf("%s:%d: the code is not formatted by gofmt (%v)", page, b.line, err)
			}
			if !strings.HasPrefix(b.text, "package main\n") && !strings.Contains(source, b.text) && !strings.Contains(flat, b.text) {
				t.Errorf("%s:%d: this code is not part of a test:\n%s", page, b.line, b.text)
			}
		}
	}
}

// TestAnswers runs the partd commands in docs/answers.md. A test of the tables runs the others.
func TestAnswers(t *testing.T) {
	commands := regexp.MustCompile("`(partd [a-z]+ [^`]*)`").FindAllStringSubmatch(readFile(t, "docs/answers.md"), -1)
	if len(commands) < 8 {
		t.Fatalf("docs/answers.md has the commands %q, want at least 8", commands)
	}
	dir := t.TempDir()
	procs.Link(t, dir, "partd")
	must.Do(t, os.WriteFile(filepath.Join(dir, "t.csv"), []byte("sym,time,price,id\nA,1,10,1\nB,2,20,2\nA,3,30,3\n"), 0o600))
	must.Do(t, os.WriteFile(filepath.Join(dir, "q.csv"), []byte("sym,time,bid\nA,0,9\nA,2,29\nB,1,19\n"), 0o600))
	for _, c := range commands {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", c[1])
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c[1], err, out)
		}
	}
}

// TestLongestRecords checks the table of the longest records in docs/shuffle.md: a record of this length is accepted, and one
// that is a twentieth longer is not. Sorting both sides of a join takes files larger than memory, so it is not run.
func TestLongestRecords(t *testing.T) {
	commands := map[string]string{
		"`shuffle`, `group`, `top --frequent`": "group --by k --agg count -o out --force in.csv",
		"`sort`, `split`":                      "sort --by k -o out --force in.csv",
		"`group` with `list(x)`":               "group --by k --agg list(v) -o out --force in.csv",
		"`top --per`":                          "top --by k --per k -o out --force in.csv",
		"`top --by`":                           "top --by k -o out --force in.csv",
		"`distinct`":                           "distinct -o out --force in.csv",
	}
	_, table, _ := strings.Cut(readFile(t, "docs/shuffle.md"), "| longest record |")
	table, _, _ = strings.Cut(table, "\n\n")
	dir := t.TempDir()
	procs.Link(t, dir, "partd")
	for name, args := range commands {
		m := regexp.MustCompile(regexp.QuoteMeta("| "+name) + `[^|]*\| ([0-9.]+) MB`).FindStringSubmatch(table)
		if m == nil {
			t.Errorf("the table has no row %s", name)
			continue
		}
		megabytes := must.Get(strconv.ParseFloat(m[1], 64))(t)
		for _, factor := range []float64{1, 1.05} {
			record := "k," + strings.Repeat("x", int(megabytes*1e6*factor)-2) + "\n"
			must.Do(t, os.WriteFile(filepath.Join(dir, "in.csv"), []byte("k,v\nq,1\n"+record), 0o600))
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "partd"), append(strings.Fields(args), "--threads", "2")...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); (err == nil) != (factor == 1) {
				t.Errorf("%s with a record of %d bytes: error %v\n%s", name, len(record), err, out)
			}
		}
	}
}

// TestMain runs the tests in the root of the repository, because pages name paths from there. The test binary acts as
// partd or partd-server if it is run by that name.
func TestMain(m *testing.M) {
	procs.Roles{"partd": procs.Program(cli.Main), "partd-server": procs.Program(servercli.Main)}.Play()
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
