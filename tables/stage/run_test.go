package stage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	_ "github.com/go-partd/partd/tables/internal/testutil/tabletest" // its ballast
	"github.com/go-partd/partd/tables/stage"
)

// TestGoexit checks that if a stage ends its goroutine, all stages that need its result fail.
func TestGoexit(t *testing.T) {
	independent := stage.Spec[int]{Version: "1"}
	exits := stage.Define("exits", func(context.Context, *stage.Inputs) (int, error) { runtime.Goexit(); return 1, nil }, independent)
	dependent := func(name string) stage.Any {
		return stage.Define(name, func(_ context.Context, in *stage.Inputs) (int, error) {
			t.Errorf("stage %s ran although its ancestor failed", name)
			return exits.Of(in)
		}, stage.Spec[int]{Version: "1", From: []stage.Any{exits}})
	}
	last := stage.Define("last", returnZero, stage.Spec[int]{Version: "1", From: []stage.Any{dependent("one"), dependent("two")}})
	must.Fail(t, must.Err(last.Run(t.Context(), open(t, t.TempDir(), nil))), "called runtime.Goexit", "Run")
}

// TestCauseOfCancellation checks that the reported error comes from the stage that failed, not from a stage that
// was canceled because of it.
func TestCauseOfCancellation(t *testing.T) {
	cause := errors.New("no luck")
	specAfter := func(stages ...stage.Any) stage.Spec[int] { return stage.Spec[int]{Version: "1", From: stages} }
	for range 50 {
		started := make(chan struct{})
		waitingStage := stage.Define("waits", func(ctx context.Context, _ *stage.Inputs) (int, error) {
			close(started)
			<-ctx.Done()
			return 0, ctx.Err()
		}, specAfter())
		failingStage := stage.Define("fails", func(context.Context, *stage.Inputs) (int, error) { <-started; return 0, cause }, specAfter())
		one := stage.Define("one", returnZero, specAfter(waitingStage))
		two := stage.Define("two", returnZero, specAfter(waitingStage, failingStage))
		_, err := stage.Define("last", returnZero, specAfter(one, two)).Run(t.Context(), open(t, t.TempDir(), nil))
		var e *stage.Error
		if !errors.Is(err, cause) || !errors.As(err, &e) || e.Stage != "fails" {
			t.Fatalf("Run = %v, want the error of the failed stage, not of a canceled one", err)
		}
	}
}

// child configures a subprocess that runs a pipeline and prints a line for each stage that runs.
type child struct {
	Dir, Raw string
	Tables   string // location of the store of tables for results; empty means that results are stored in Dir
	Catalog  string // catalog of tables in a bucket
	Cache    string // cache directory of tables in a bucket
	Factor   int64
	Hold     string // stage that waits for a line of input when it runs
}

func (c child) options(ctx context.Context) (*stage.Options, func() error, error) {
	if c.Tables == "" {
		return nil, func() error { return nil }, nil
	}
	s, err := tables.Open(ctx, c.Tables, &tables.Options{NoTail: true, Catalog: c.Catalog, CacheDir: c.Cache, OpenBucket: cloud.OpenBucket})
	if err != nil {
		return nil, nil, err
	}
	return &stage.Options{Tables: s, Bucket: "b"}, s.Close, nil
}

func (c child) run(out io.Writer, in *bufio.Scanner) error {
	ctx := context.Background()
	o, closeTables, err := c.options(ctx)
	if err != nil {
		return err
	}
	r, err := stage.Open(c.Dir, o)
	if err != nil {
		return err
	}
	recipe := recipeOf(c.Raw, c.Factor)
	recipe.onRun = func(name string) error {
		fmt.Fprintln(out, "ran", name)
		if name == c.Hold {
			in.Scan()
		}
		return nil
	}
	fmt.Fprintln(out, "runs")
	got, err := recipe.pipeline().Run(ctx, r)
	if err != nil {
		return err
	}
	b, err := json.Marshal(got)
	if err == nil {
		fmt.Fprintln(out, "result", string(b))
	}
	return errors.Join(err, r.Close(), closeTables())
}

func TestMain(m *testing.M) {
	procs.Roles{"child": func(args []string) error {
		var c child
		if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
			return err
		}
		return c.run(os.Stdout, bufio.NewScanner(os.Stdin))
	}}.Main(m)
}

// start starts this test program as a child process.
func (c child) start(t testing.TB) *procs.Process {
	t.Helper()
	return procs.Start(t, procs.Command("child", string(must.Get(json.Marshal(c))(t))))
}

// wait returns the remaining lines of a child process's output.
func wait(p *procs.Process) ([]string, error) {
	lines := slices.Collect(p.Lines())
	return lines, p.Wait()
}

// TestProcesses checks that if several processes run the same pipeline, one of them computes the results and the
// others wait. If the computing process is killed, another one must take over.
func TestProcesses(t *testing.T) {
	testComputedOnce(t, "directory", func(testing.TB) child { return child{} })
	testComputedOnce(t, "tables", func(t testing.TB) child { return child{Tables: t.TempDir()} })
}

// testComputedOnce runs processes that share a backend, and checks that each stage runs only once. If results are
// stored outside the directory, each process has its own directory, so that only the bucket's lock excludes the
// other processes.
func testComputedOnce(t *testing.T, name string, newChild func(testing.TB) child) {
	for _, isKilled := range []bool{false, true} {
		t.Run(fmt.Sprintf("%s, killed %v", name, isKilled), func(t *testing.T) {
			t.Parallel()
			c := newChild(t)
			c.Dir, c.Raw, c.Factor, c.Hold = t.TempDir(), newRecipe(t).raw, 2, "text"
			waiter := c
			if waiter.Hold = ""; c.Tables != "" {
				waiter.Dir = t.TempDir()
				_, closeTables, err := c.options(t.Context())
				must.Do(t, err)
				must.Do(t, closeTables())
			}
			first := c.start(t)
			first.WaitFor(t, "ran text")
			waiting := []*procs.Process{waiter.start(t), waiter.start(t)}
			for _, p := range waiting {
				p.WaitFor(t, "runs")
			}
			time.Sleep(500 * time.Millisecond) // if the processes did not wait, they would run stages in this time
			if isKilled {
				first.KillAfter(0)
			} else if _, err := fmt.Fprintln(first.In); err != nil {
				t.Fatal(err)
			}
			output := ""
			for _, p := range append(waiting, first) {
				lines, err := wait(p)
				if (err != nil) != (p == first && isKilled) {
					t.Fatal(err)
				}
				if p != first || !isKilled {
					if len(lines) == 0 || lines[len(lines)-1] != "result "+wantResult {
						t.Errorf("a process printed %q, want the result %s at the end", lines, wantResult)
					}
					output += strings.Join(lines, "\n") + "\n"
				}
			}
			want := map[string]int{"double": 1, "text": 0, "last": 1, "load": 0} // load and text ran before the output was read
			if isKilled {
				want["text"] = 1
			}
			for name, count := range want {
				if got := strings.Count(output, "ran "+name+"\n"); got > count || got < count && name != "double" {
					t.Errorf("%s ran %d times, want %d", name, got, count)
				}
			}
		})
	}
}

// TestKills kills processes at random times while they store tables, files and values. It checks that partial
// results are never read, and that the next run removes leftovers. PARTD_KILLS sets the number of kills.
func TestKills(t *testing.T) {
	for _, backend := range []string{"directory", "tables"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			c := child{Dir: t.TempDir(), Raw: newRecipe(t).raw}
			if backend == "tables" {
				c.Tables = t.TempDir()
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			wantKills, killed := procs.Kills(t, 6), 0
			for c.Factor = 0; killed < wantKills; c.Factor++ {
				if c.Factor > int64(10*wantKills+100) {
					t.Fatalf("only %d of %d processes were killed before they ended, want %d", killed, c.Factor, wantKills)
				}
				// Kill the process a few milliseconds after it printed a random number of lines, one for each stage
				// that began.
				p := c.start(t)
				for range rnd.IntN(5) {
					_, _ = p.Line()
				}
				time.Sleep(time.Duration(rnd.IntN(6000)) * time.Microsecond)
				p.Kill()
				if p.Wait() != nil {
					killed++
				}
				o, closeTables, err := c.options(t.Context())
				must.Do(t, err)
				r := open(t, c.Dir, o)
				got, err := recipeOf(c.Raw, c.Factor).pipeline().Run(t.Context(), r)
				if b, _ := json.Marshal(got); err != nil || string(b) != strings.Replace(wantResult, "44", fmt.Sprint(22*c.Factor), 1) {
					t.Fatalf("round %d: the run after the kill returned %s, %v", c.Factor, b, err)
				}
				// Stored results are complete: a stage with changed code reads all of them.
				changed := recipeOf(c.Raw, c.Factor)
				changed.source["last.go"] = &fstest.MapFile{Data: fmt.Appendf(nil, "package p%d", c.Factor)}
				if b, err := json.Marshal(run(t, r, changed.pipeline())); err != nil || !strings.Contains(string(b), fmt.Sprint(22*c.Factor)) {
					t.Fatalf("round %d: the run with changed code returned %s, %v", c.Factor, b, err)
				}
				must.Get(r.GC(t.Context(), nil))(t)
				checkNoLeftovers(t, c.Dir)
				if lockFiles, err := filepath.Glob(filepath.Join(c.Dir, "locks", "*")); err != nil || len(lockFiles) > 0 {
					t.Fatalf("the lock files %q remain, want none; error: %v", lockFiles, err)
				}
				must.Do(t, closeTables())
			}
			t.Logf("%d of %d processes were killed", killed, c.Factor)
		})
	}
}
