// Package docs_test tests the pages, and what they say about the repository.
package docs_test

import (
	"cmp"
	"context"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// TestAnswers checks that each figure in the sentences of docs/answers.md is in one of the pages that their sections
// link to. A figure is a number with its unit; a command is not checked.
func TestAnswers(t *testing.T) {
	text := must.Get(os.ReadFile("docs/answers.md"))(t)
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	sections := strings.Split(string(text), "\n## ")[1:]
	if len(sections) != 5 {
		t.Errorf("docs/answers.md has %d sections, want 5", len(sections))
	}
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		var sources, sentence []string
		for _, m := range link.FindAllStringSubmatch(section, -1) {
			source := must.Get(os.ReadFile("docs/" + m[1]))(t)
			before := ""
			for block := range strings.SplitSeq(string(source), "\n\n") {
				unit := ""
				if strings.HasPrefix(block, "|") && strings.Contains(before, "Seconds") {
					unit = "s" // the caption names the unit of the table's figures
				}
				sources = append(sources, figures(block, unit)...)
				before = block
			}
		}
		for line := range strings.Lines(section) {
			if quoted, ok := strings.CutPrefix(line, "> "); ok {
				sentence = append(sentence, strings.TrimSpace(quoted))
			}
		}
		spoken := regexp.MustCompile("`[^`]*`").ReplaceAllString(strings.Join(sentence, " "), "")
		spoken = strings.ReplaceAll(spoken, "p2p", "")
		if len(sentence) == 0 {
			t.Errorf("section %q has no sentence", title)
		}
		for _, f := range figures(spoken, "") {
			if !slices.Contains(sources, f) {
				t.Errorf("section %q: none of the pages that it links to has the figure %s", title, f)
			}
		}
	}
}

var figure = regexp.MustCompile(`([0-9][0-9.,]*[0-9]|[0-9])(?:\s(µs|ms|s|MB/s|MB|GB|MiB|rows)\b)?`)

// figures returns the figures of a text, each with its unit, or with the given unit if it has none.
func figures(text, unit string) (all []string) {
	for _, m := range figure.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.TrimSpace(m[1]+" "+cmp.Or(m[2], unit)))
	}
	return all
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
