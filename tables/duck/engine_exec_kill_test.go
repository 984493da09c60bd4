//go:build cgo

package duck_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// runStatements runs statements on a store. Its arguments are the directories of the store and of its tail, which may
// be empty. It reads the statements from standard input: each line contains an ID, a space and a statement. It prints a
// line after each statement. If a statement fails because of conflicts with another process, runStatements runs it
// again.
func runStatements(args []string) error {
	ctx := context.Background()
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	s, err := tables.Open(ctx, args[0], &tables.Options{Engine: engine, FoldAge: 20 * time.Millisecond, TailDir: args[1]})
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

// statements is a process that executes runStatements.
type statements struct{ *procs.Process }

func startStatements(t *testing.T, dir, tailDir string) statements {
	t.Helper()
	p := procs.Start(t, procs.Command("statements", dir, tailDir))
	p.WaitFor(t, "ready")
	return statements{p}
}

// exec sends a statement to the process, and reports whether the process completed it.
func (s statements) exec(id, sql string) bool {
	_, ok := s.Ask(id + " " + strings.ReplaceAll(sql, "\n", " "))
	return ok
}

// TestExecKill kills a process while it runs random statements. A statement must take effect completely or not at all.
// After it is sent again with its ID, it must have taken effect exactly once. PARTD_KILLS sets the number of kills.
func TestExecKill(t *testing.T) {
	r := &randomStatements{Rand: procs.Rand(t)}
	dir, p := t.TempDir(), newPlainDuckDB(t)
	engine, err := duck.New(&duck.Options{TempDir: t.TempDir()})
	must.Do(t, err)
	defer engine.Close() //nolint:errcheck // only cleanup
	next, effects := 0, map[bool]int{}
	for round := range procs.Kills(t, 6) {
		c := startStatements(t, dir, "")
		c.KillAfter(time.Duration(20+r.IntN(400)) * time.Millisecond)
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
		c.WaitKilled(t)
		s := must.Get(tables.Open(t.Context(), dir, &tables.Options{Engine: engine, FoldAge: -1}))(t)
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
		must.Do(t, s.Close())
	}
	t.Logf("%d statements; of the killed ones, %d had taken effect and %d had not", next, effects[true], effects[false])
}

// TestExecTwoProcesses runs statements on one table in two child processes at once. No change may be lost or applied
// twice.
func TestExecTwoProcesses(t *testing.T) {
	each := max(4, procs.Kills(t, 0)/8)
	s := newStore(t, nil)
	change(t, s, "CREATE TABLE t AS SELECT i AS k, 0 AS n FROM range(2) r(i)", 2)
	var processes sync.WaitGroup
	for i := range 2 {
		c := startStatements(t, s.Dir(), t.TempDir())
		processes.Go(func() {
			for n := range each {
				for j, sql := range []string{
					"UPDATE t SET n = n + 1 WHERE k = 0", "MERGE INTO t USING (SELECT 1 AS i) AS u ON k = i WHEN MATCHED THEN UPDATE SET n = n + 1",
					"INSERT INTO t VALUES (2, 1), (2, 1)", "INSERT INTO t SELECT 3, max(n) FROM t WHERE k < 0", "DELETE FROM t WHERE k = 3",
				} {
					if !c.exec(fmt.Sprintf("%d-%d-%d", i, n, j), sql) {
						t.Errorf("%s: %v", sql, c.Wait())
						return
					}
				}
			}
			must.Check(t, errors.Join(c.In.Close(), c.Wait()))
		})
	}
	processes.Wait()
	expect(t, s, "SELECT k, count(*), sum(n) FROM b.t GROUP BY k ORDER BY k", nil, fmt.Sprintf("0|1|%d", 2*each), fmt.Sprintf("1|1|%d", 2*each), fmt.Sprintf("2|%d|%[1]d", 4*each))
}
