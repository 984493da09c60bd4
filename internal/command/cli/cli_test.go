package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/stores"
)

// asProgram is an environment variable that makes the test binary run as partd.
const asProgram = "CLI_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	procs.AllowParallel()
	procs.CollectLess()
	procs.TempInMemory()
	testscript.Main(m, map[string]func(){"partd": func() { os.Exit(Main(os.Args[1:])) }})
}

// quickExit lets programs with the race detector exit without the usual delay of a second.
const quickExit = "GORACE=atexit_sleep_ms=0"

// program returns a command that runs partd.
func program(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{asProgram + "=1", quickExit, "PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir}
	return cmd
}

// succeed runs partd in a process of its own, which must succeed, and returns its output.
func succeed(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	cmd, stderr := programErrs(t, args...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("partd %q: %v\n%s", args, err, stderr)
	}
	return string(out)
}

// programErrs returns a command that runs partd, and its standard error.
func programErrs(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	cmd, stderr = program(t, args...), new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

// runHere runs partd in this process. Its --store is the given store or, if that is nil, the store of the URL.
func runHere(ctx context.Context, store partd.Partd, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	a := &app{in: os.Stdin, out: &out, errOut: &errs, open: openStore}
	if store != nil {
		a.open = func(context.Context, string, map[string]string) (partd.Partd, error) { return store, nil }
	}
	code = execute(ctx, args, a)
	return code, out.String(), errs.String()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			// The user's environment variables must not affect the tests.
			vars := env.Vars[:0]
			for _, v := range env.Vars {
				if !strings.HasPrefix(v, "PARTD_") {
					vars = append(vars, v)
				}
			}
			env.Vars = append(vars, quickExit, "DEFAULT="+defaultStore)
			if strings.Contains(env.WorkDir, "script-limits") {
				return writeLimits(env.WorkDir)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "printf": printf,
		},
	})
}

// writeLimits writes input files for limits.txtar: lists of many aggregates, and long keys, records and lines.
func writeLimits(dir string) error {
	repeatAggregate := func(aggregate string, n int) string {
		var aggregates []string
		for i := range n {
			aggregates = append(aggregates, fmt.Sprintf("%s(c%d)", aggregate, i+1))
		}
		return strings.Join(aggregates, ",")
	}
	record := `{"k":"a"`
	for i := range 1000 {
		record += fmt.Sprintf(`,"c%d":%d`, i+1, i)
	}
	withLongLine := func(n int) string { return "k,v\na,1\n" + strings.Repeat("x", n) + ",2\n" }
	long := func(n int) string { return strings.Repeat("x", n) }
	const limit = 16 << 20 / 4     // the longest record with 16 MiB of memory
	const values = 16<<20/32/2 + 1 // number of values "x;" of which the last exceeds the memory of a list
	list := strings.Repeat(";x", values)[1:]
	var errs []error
	for name, text := range map[string]string{
		"limit.csv": "k,v\na,1\nb," + long(limit-3) + "\na,2\n", "longer.csv": "k,v\na,1\nb," + long(limit-2) + "\na,2\n", "limit": "b," + long(limit-3) + "\n",
		"lines.txt": "x\nx\n" + strings.Repeat(long(40_000)+"\n", 2) + strings.Repeat(long(70_000)+"\n", 2), "lines": "x\n" + long(40_000) + "\n" + long(70_000) + "\n",
		"list.txt": strings.Repeat("k x\n", values), "list.text": "k " + list + "\n", "list.tsv": "k\t" + list + "\n", "list.csv": `k,"` + list + "\"\n",
		"list.jsonl": `{"1":"k","list(2)":["x"` + strings.Repeat(`,"x"`, values-1) + "]}\n",
		"row.csv":    "k,s\na," + long(50_000) + "\n",
		"sums":       repeatAggregate("sum", 1000), "distincts": repeatAggregate("distinct", 15), "many": repeatAggregate("distinct", 60),
		"wide.jsonl": record + "}\n" + `{"k":"a","c1":7}` + "\n", "long.csv": withLongLine(250_000), "between.csv": withLongLine(40_000),
	} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
	}
	return errors.Join(errs...)
}

// exits runs a command and checks its exit code: exits CODE COMMAND ARGS…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// printf writes the content of a Go string literal to a file: printf FILE STRING
func printf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: printf FILE STRING")
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666))
}

// TestHelpIsComplete checks that every command has an example and a long help, and that the help of every flag ends with
// its environment variable. docs/cli.md must name every command, and the default store.
func TestHelpIsComplete(t *testing.T) {
	page := string(must.Get(os.ReadFile("../../../docs/cli.md"))(t))
	if !strings.Contains(page, "The store is `"+defaultStore+"` unless") {
		t.Errorf("docs/cli.md does not say that the default store is %s", defaultStore)
	}
	root := newRoot(&app{})
	commands := append([]*cobra.Command{root}, root.Commands()...)
	if len(commands) < 10 {
		t.Fatalf("got %d commands, want at least 10", len(commands))
	}
	for _, c := range commands {
		if c.Name() == "help" {
			continue
		}
		if c.Example == "" || c.Long == "" || c.Short == "" {
			t.Errorf("%s has no example, long help or short help", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Long+"\n"+c.Example, "\n") {
			if len([]rune(line)) > 82 {
				t.Errorf("%s: a line of the help has %d characters, want at most 82: %s", c.CommandPath(), len([]rune(line)), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.HasSuffix(f.Usage, "[$"+env.VariableOf(c, f.Name)+"]") {
				t.Errorf("%s --%s: the usage %q does not end with the environment variable", c.CommandPath(), f.Name, f.Usage)
			}
		})
		if c != root && c.Name() != "completion" && c.Name() != "version" && !strings.Contains(page, "`"+c.Name()+"`") {
			t.Errorf("docs/cli.md does not name partd %s", c.Name())
		}
	}
}

// TestHelpNamesLayers checks that the help lists every compression layer, in the order of package stores.
func TestHelpNamesLayers(t *testing.T) {
	var names []string
	_, prefixes := stores.NewSet().Parts()
	for _, p := range prefixes {
		if name := strings.TrimSuffix(p.Name, "+"); name != "buffer" {
			names = append(names, name)
		}
	}
	last := len(names) - 1
	want := "zstd+log:DIR: " + strings.Join(names[:last], ", ") + " and " + names[last] + "."
	if help := strings.Join(strings.Fields(rootHelp), " "); !strings.Contains(help, want) {
		t.Errorf("the help does not contain %q", want)
	}
}

// TestFlagVariables checks that every flag takes its value from its environment variable, unless it is set on the
// command line.
func TestFlagVariables(t *testing.T) {
	values := map[string][2]string{
		"int": {"3", "4"}, "bool": {"true", "false"}, "string": {"x", "y"}, "size": {"17825792", "18874368"}, "stringArray": {"x", "y"},
		"encoding": {"utf-16", "latin-1"},
	}
	for _, c := range newRoot(&app{}).Commands() {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			v, ok := values[f.Name]
			if !ok {
				v, ok = values[f.Value.Type()]
			}
			if !ok {
				t.Fatalf("%s --%s: no value for type %s", c.Name(), f.Name, f.Value.Type())
			}
			t.Setenv(env.VariableOf(c, f.Name), v[0])
			defer os.Unsetenv(env.VariableOf(c, f.Name))
			for _, onCommandLine := range []bool{false, true} {
				parseFlags := func() *pflag.FlagSet {
					cmd, _, _ := newRoot(&app{}).Find([]string{c.Name()})
					args := []string{}
					if onCommandLine {
						args = []string{"--" + f.Name + "=" + v[1]}
					}
					must.Do(t, cmd.ParseFlags(args))
					must.Do(t, env.Apply(cmd))
					return cmd.Flags()
				}
				parsed := *parseFlags().Lookup(f.Name)
				want := unsetFlag(c.Name(), f.Name)
				must.Do(t, want.Set(v[map[bool]int{false: 0, true: 1}[onCommandLine]]))
				if got := parsed.Value.String(); got != want.String() {
					t.Errorf("%s --%s is %s, want %s (on the command line: %v)", c.Name(), f.Name, got, want, onCommandLine)
				}
			}
		})
	}
}

// unsetFlag returns the value of a flag that is not set.
func unsetFlag(cmd, flag string) pflag.Value {
	c, _, _ := newRoot(&app{}).Find([]string{cmd})
	return c.Flags().Lookup(flag).Value
}

func TestKeyText(t *testing.T) {
	for key, want := range map[string]string{
		"a b": "a b", "": `""`, `"x`: `"\"x"`, `a"`: `a"`, "a\tb": `"a\tb"`, "\xff": `"\xff"`, "é": "é", "a\u200bb": `"a\u200bb"`, `a\b`: `a\b`,
	} {
		if got := keyText(key); got != want {
			t.Errorf("keyText(%q) = %s, want %s", key, got, want)
		}
	}
}

func TestWithUnit(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1000 (1.0 kB)", 519622348: "519622348 (519.6 MB)", 1 << 62: fmt.Sprint(int64(1)<<62) + " (4.6 EB)"} {
		if got := withUnit(n); got != want {
			t.Errorf("withUnit(%d) = %s, want %s", n, got, want)
		}
	}
}
