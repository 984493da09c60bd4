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
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/stage"
)

const childEnv = "PARTD_STAGE_CHILD"

// child is what a process of its own runs: the pipeline of a round, over and over, and a
// line for each stage that runs.
type child struct {
	Dir, Raw string
	Tables   string // "": the directory
	Catalog  string // of tables in a bucket
	Cache    string // of them
	Factor   int64
	Hold     string // a stage that waits for a line once it runs
}

func (c child) recipe() *recipe {
	source := fstest.MapFS{}
	for _, name := range []string{"load", "double", "text", "last"} {
		source[name+".go"] = &fstest.MapFile{Data: []byte(code)}
	}
	return &recipe{ran: &ran{}, raw: c.Raw, source: source, factor: c.Factor}
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
	o, end, err := c.options(ctx)
	if err != nil {
		return err
	}
	r, err := stage.Open(c.Dir, o)
	if err != nil {
		return err
	}
	recipe := c.recipe()
	recipe.before = func(name string) error {
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
	return errors.Join(err, r.Close(), end())
}

func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run(os.Stdout, bufio.NewScanner(os.Stdin))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is a child that runs.
type process struct {
	*exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Scanner
	stderr strings.Builder
}

func (c child) start(t testing.TB) *process {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
	p.Env = append(os.Environ(), childEnv+"="+string(b))
	p.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	if err == nil {
		p.in, err = p.StdinPipe()
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	return p
}

// wait returns what the process wrote until it ended.
func (p *process) wait() (lines []string, err error) {
	for p.lines.Scan() {
		lines = append(lines, p.lines.Text())
	}
	if err = p.Wait(); err != nil {
		err = fmt.Errorf("%w: %s", err, p.stderr.String())
	}
	return lines, err
}

func (p *process) until(t testing.TB, line string) {
	t.Helper()
	for p.lines.Scan() {
		if p.lines.Text() == line {
			return
		}
	}
	t.Fatalf("no %q: %v %s", line, p.Wait(), p.stderr.String())
}

func kills(t testing.TB, otherwise int) int {
	t.Helper()
	if text := os.Getenv("PARTD_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return otherwise
}

// Of several processes one computes, while the others wait; where it is killed, one takes
// over.
func TestProcesses(t *testing.T) {
	computedOnce(t, "directory", func(testing.TB) child { return child{} })
	computedOnce(t, "tables", func(t testing.TB) child { return child{Tables: t.TempDir()} })
}

// computedOnce runs processes that share a place. Where results are not in the directory,
// each of the others has one of its own, and the bucket's lock alone excludes them.
func computedOnce(t *testing.T, name string, place func(testing.TB) child) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("%s, killed %v", name, killed), func(t *testing.T) {
			t.Parallel()
			c := place(t)
			c.Dir, c.Raw, c.Factor, c.Hold = t.TempDir(), newRecipe(t).raw, 2, "text"
			others := c
			if others.Hold = ""; c.Tables != "" {
				others.Dir = t.TempDir()
				_, end, err := c.options(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
			}
			first := c.start(t)
			first.until(t, "ran text")
			waiting := []*process{others.start(t), others.start(t)}
			for _, p := range waiting {
				p.until(t, "runs")
			}
			time.Sleep(500 * time.Millisecond) // were they not to wait, they would compute now
			if killed {
				if err := first.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			} else if _, err := fmt.Fprintln(first.in); err != nil {
				t.Fatal(err)
			}
			all := ""
			for _, p := range append(waiting, first) {
				lines, err := p.wait()
				if (err != nil) != (p == first && killed) {
					t.Fatal(err)
				}
				if p != first || !killed {
					if len(lines) == 0 || lines[len(lines)-1] != "result "+wanted {
						t.Error(lines)
					}
					all += strings.Join(lines, "\n") + "\n"
				}
			}
			want := map[string]int{"double": 1, "text": 0, "last": 1, "load": 0} // load and text ran before
			if killed {
				want["text"] = 1
			}
			for name, most := range want {
				if got := strings.Count(all, "ran "+name+"\n"); got > most || got < most && name != "double" {
					t.Errorf("%s ran %d times, want %d", name, got, most)
				}
			}
		})
	}
}

// Processes are killed at random moments, while they keep tables, files and values. No half
// result is ever read, and the next run removes what they left; PARTD_KILLS says how many.
func TestKills(t *testing.T) {
	for _, where := range []string{"directory", "tables"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			c := child{Dir: t.TempDir(), Raw: newRecipe(t).raw}
			if where == "tables" {
				c.Tables = t.TempDir()
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			most, dead := kills(t, 6), 0
			for c.Factor = 0; dead < most; c.Factor++ {
				if c.Factor > int64(10*most+100) {
					t.Fatalf("of %d processes %d died", c.Factor, dead)
				}
				// It is killed within this time after a stage of its began to run.
				p := c.start(t)
				for range rnd.IntN(5) {
					if !p.lines.Scan() {
						break
					}
				}
				time.Sleep(time.Duration(rnd.IntN(6000)) * time.Microsecond)
				if err := p.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				if _, err := p.wait(); err != nil {
					dead++
				}
				o, end, err := c.options(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r := open(t, c.Dir, o)
				got, err := c.recipe().pipeline().Run(t.Context(), r)
				if b, _ := json.Marshal(got); err != nil || string(b) != strings.Replace(wanted, "44", fmt.Sprint(22*c.Factor), 1) {
					t.Fatalf("round %d: %s, %v", c.Factor, b, err)
				}
				// What is kept is whole: all of it is read by a stage that runs anew.
				anew := c.recipe()
				anew.source["last.go"] = &fstest.MapFile{Data: fmt.Appendf(nil, "package p%d", c.Factor)}
				if b, err := json.Marshal(run(t, r, anew.pipeline())); err != nil || !strings.Contains(string(b), fmt.Sprint(22*c.Factor)) {
					t.Fatalf("round %d: %s, %v", c.Factor, b, err)
				}
				if _, err := r.GC(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				left(t, c.Dir)
				if found, err := filepath.Glob(filepath.Join(c.Dir, "locks", "*")); err != nil || len(found) > 0 {
					t.Fatal(found, err)
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d processes of %d died", dead, c.Factor)
		})
	}
}
