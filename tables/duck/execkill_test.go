//go:build cgo

package duck_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

const execChildEnv, execTailEnv = "PARTD_TABLES_EXEC_CHILD", "PARTD_TABLES_EXEC_TAIL"

// runExecChild runs statements on the store in dir. It reads them from standard input: each line contains an ID, a
// space and a statement. It prints a line after each statement. If a statement fails because of conflicts with another
// process, runExecChild runs it again.
func runExecChild(dir string) error {
	ctx := context.Background()
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	s, err := tables.Open(ctx, dir, &tables.Options{Engine: engine, FoldAge: 20 * time.Millisecond, TailDir: os.Getenv(execTailEnv)})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		for { // errors are expected, because statements and other processes change the tables
			_, _ = s.Compact(ctx, nil)
			_, _ = s.Expire(ctx, nil)
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		id, sql, _ := strings.Cut(in.Text(), " ")
		_, err := s.Exec(ctx, sql, &tables.ExecOptions{Bucket: "b", ID: id})
		for errors.Is(err, tables.ErrConflict) {
			_, err = s.Exec(ctx, sql, &tables.ExecOptions{Bucket: "b", ID: id})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		time.Sleep(5 * time.Millisecond) // so that some kills happen after the commit but before "done"
		fmt.Println("done")
	}
	close(stop)
	background.Wait()
	_, err = s.Fold(ctx, nil)
	return errors.Join(err, s.Close(), engine.Close())
}

// execChild is a process that executes runExecChild.
type execChild struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Scanner
	stderr strings.Builder
}

func startExecChild(t *testing.T, dir, tailDir string) *execChild {
	t.Helper()
	c := &execChild{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), execChildEnv+"="+dir, execTailEnv+"="+tailDir)
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.in, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	if c.lines = bufio.NewScanner(out); !c.lines.Scan() {
		t.Fatalf("the child process did not start: %v: %s", c.cmd.Wait(), c.stderr.String())
	}
	return c
}

// exec sends a statement to the child, and reports whether the child completed it.
func (c *execChild) exec(id, sql string) bool {
	_, err := fmt.Fprintln(c.in, id, strings.ReplaceAll(sql, "\n", " "))
	return err == nil && c.lines.Scan()
}

// TestExecKill kills a process while it runs random statements. A statement must take effect completely or not at all.
// After it is sent again with its ID, it must have taken effect exactly once. PARTD_KILLS sets the number of kills.
func TestExecKill(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("PARTD_KILLS")); err == nil {
		rounds = n
	}
	r := &randomStatements{Rand: rand.New(rand.NewPCG(rand.Uint64(), 0))}
	dir, p := t.TempDir(), newPlainDuckDB(t)
	engine, err := duck.New(&duck.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close() //nolint:errcheck // only cleanup
	next, effects := 0, map[bool]int{}
	for round := range rounds {
		c := startExecChild(t, dir, "")
		delay := time.Duration(20+r.IntN(400)) * time.Millisecond
		timer := time.AfterFunc(delay, func() { _ = c.cmd.Process.Kill() })
		var sql, before string
		var rows int64
		for killed := false; !killed; {
			if next%40 == 0 {
				r.newTable()
				sql = "CREATE OR REPLACE TABLE t (" + r.columns() + ")"
			} else {
				sql = r.statement()
			}
			before = ""
			if next > 0 {
				before = p.text(allRows)
			}
			if rows, err = p.exec(sql); err != nil {
				continue
			}
			next++
			killed = !c.exec(fmt.Sprint("statement", next), sql)
		}
		timer.Stop()
		_ = c.cmd.Wait() // returns an error, because the process was killed
		if c.stderr.Len() > 0 {
			t.Fatal(c.stderr.String())
		}
		s, err := tables.Open(t.Context(), dir, &tables.Options{Engine: engine, FoldAge: -1})
		if err != nil {
			t.Fatal(err)
		}
		in := &tables.QueryOptions{Bucket: "b"}
		after := p.text(allRows)
		if exists, err := s.Bucket("b").Exists(t.Context()); err != nil {
			t.Fatal(err)
		} else if exists || next > 1 {
			have := onlyValue(t, s, allRows, in)
			if have != before && have != after {
				t.Fatalf("round %d: a kill during %s left\n%s\nbefore it were\n%s\nand after it\n%s", round, sql, have, before, after)
			}
			if before != after {
				effects[have == after]++
			}
		}
		again, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b", ID: fmt.Sprint("statement", next)})
		if err != nil || again.Rows != rows {
			t.Fatalf("round %d: %s after a kill = %d rows, error %v; want %d rows", round, sql, again.Rows, err, rows)
		}
		if have := onlyValue(t, s, allRows, in); have != after {
			t.Fatalf("round %d: %s, killed and sent again, left\n%s\nwant\n%s", round, sql, have, after)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d statements; of the killed ones, %d had taken effect and %d had not", next, effects[true], effects[false])
}

// TestExecTwoProcesses runs statements on one table in two child processes at once. No change may be lost or applied
// twice.
func TestExecTwoProcesses(t *testing.T) {
	const each = 8
	s := newStore(t, nil)
	change(t, s, "CREATE TABLE t AS SELECT i AS k, 0 AS n FROM range(2) r(i)", 2)
	var processes sync.WaitGroup
	for i := range 2 {
		c := startExecChild(t, s.Dir(), t.TempDir())
		processes.Go(func() {
			for n := range each {
				for j, sql := range []string{
					"UPDATE t SET n = n + 1 WHERE k = 0", "MERGE INTO t USING (SELECT 1 AS i) AS u ON k = i WHEN MATCHED THEN UPDATE SET n = n + 1",
					"INSERT INTO t VALUES (2, 1), (2, 1)", "INSERT INTO t SELECT 3, max(n) FROM t WHERE k < 0", "DELETE FROM t WHERE k = 3",
				} {
					if !c.exec(fmt.Sprintf("%d-%d-%d", i, n, j), sql) {
						t.Errorf("%s: %v: %s", sql, c.cmd.Wait(), c.stderr.String())
						return
					}
				}
			}
			if err := errors.Join(c.in.Close(), c.cmd.Wait()); err != nil {
				t.Errorf("%v: %s", err, c.stderr.String())
			}
		})
	}
	processes.Wait()
	expect(t, s, "SELECT k, count(*), sum(n) FROM b.t GROUP BY k ORDER BY k", nil, "0|1|16", "1|1|16", "2|32|32")
}
