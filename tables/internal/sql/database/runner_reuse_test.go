//go:build cgo

package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// runStatement runs a statement in a confined database, and reads all rows of the result.
func runStatement(t *testing.T, d *Database, j *Job) {
	t.Helper()
	r := must.Get(d.Start(context.Background(), j))(t)
	defer d.Finish()
	defer r.End()
	for {
		batch := must.Get(r.Next())(t)
		if batch == nil {
			return
		}
		batch.Release()
	}
}

// wantReusable checks that another statement can use a database.
func wantReusable(t *testing.T, d *Database) {
	t.Helper()
	if !d.Reuse().IsPossible {
		t.Fatal("Reuse() = false, want true: another statement can use the database")
	}
}

func openDatabase(t testing.TB, memory int64) *Database {
	t.Helper()
	d := must.Get(Open(&Options{Memory: memory, MaxTemp: 1 << 30, Threads: 2}, filepath.Join(t.TempDir(), "spill")))(t)
	t.Cleanup(d.Close)
	return d
}

// TestOpenEarly checks that only the next Open returns an early database, with its limits, and that Close removes its
// directory.
func TestOpenEarly(t *testing.T) {
	OpenEarly()
	d := openDatabase(t, 64<<20)
	if !d.isEarly || openDatabase(t, 64<<20).isEarly {
		t.Fatal("not exactly the first of two databases is early")
	}
	must.Do(t, d.execute("SELECT if(current_setting('memory_limit') = '64.0 MiB' AND current_setting('threads') = 2, 1, error('no limit'))"))
	must.Do(t, os.MkdirAll(filepath.Join(d.dir, "file"), 0o700))
	runStatement(t, d, &Job{Memory: 64 << 20, SQL: "SELECT 1"})
	d.Close()
	if _, err := os.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of the closed database's directory: %v, want it to be missing", err)
	}
}

// TestReuse checks that a statement leaves nothing for the next statement: no temporary tables, variables,
// prepared statements, transaction, search path, random seed, or memory.
func TestReuse(t *testing.T) {
	t.Setenv("TZ", "America/New_York")
	d := openDatabase(t, 512<<20)
	file := filepath.Join(t.TempDir(), "rows.parquet")
	must.Do(t, d.execute("COPY (SELECT range AS a, hash(range) AS b FROM range(2000000)) TO '"+file+"'"))
	j := &Job{Memory: 512 << 20, Paths: []string{file}, Views: []string{`CREATE VIEW "main"."t" AS FROM read_parquet('` + file + `')`}}
	j.SQL = "SELECT max(b), count(DISTINCT a) FROM t"
	runStatement(t, d, j)
	const setSeed = "SELECT setseed(0.5)"
	for _, sql := range []string{"CREATE TEMP TABLE x AS SELECT 1 AS a", "SET VARIABLE v = 'secret'", "PREPARE p AS SELECT 1", "SET search_path = 'temp'", setSeed, "BEGIN"} {
		if err := d.execute(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	withSeed := openDatabase(t, 512<<20)
	must.Do(t, withSeed.execute(setSeed))
	const random = "SELECT random()::VARCHAR"
	want := firstValue(t, withSeed, random)
	if got := firstValue(t, d, random); got != want {
		t.Fatalf("random() = %s after the same seed, want %s", got, want)
	}
	must.Do(t, d.execute(setSeed))
	wantReusable(t, d)
	if got := firstValue(t, d, random); got == want {
		t.Error("random() continues from another statement's seed")
	}
	for _, sql := range []string{"SELECT * FROM x", "EXECUTE p", "COMMIT", "SET memory_limit='1TB'"} {
		if err := d.execute(sql); err == nil {
			t.Errorf("%s succeeded: another statement's state is visible", sql)
		}
	}
	if got := firstValue(t, d, "SELECT coalesce(getvariable('v')::VARCHAR, '') || current_schema()"); got != "main" {
		t.Error("another statement's variable or search path is visible:", got)
	}
	if got := firstValue(t, d, "SELECT count(*)::VARCHAR FROM duckdb_external_file_cache()"); got != "0" {
		t.Error("another statement's files are still cached:", got)
	}
	if got := firstValue(t, d, "SELECT CASE WHEN sum(memory_usage_bytes) < 1 << 20 THEN 'little' ELSE sum(memory_usage_bytes)::VARCHAR END FROM duckdb_memory()"); got != "little" {
		t.Error("another statement's memory is still in use:", got)
	}
	err := d.execute("SELECT nothere FROM t")
	if err == nil || strings.Contains(err.Error(), "LINE") || !strings.Contains(err.Error(), "Binder error: ") {
		t.Error("the error of a later statement has another form:", err)
	}
	if got := firstValue(t, d, "SELECT make_timestamptz(0)::VARCHAR"); got != "1970-01-01 00:00:00+00" {
		t.Error("the time zone is not UTC:", got)
	}
}

// TestRunDescribed checks that Start runs a described statement on the same connection, without preparing it
// again.
func TestRunDescribed(t *testing.T) {
	d := openDatabase(t, 64<<20)
	describe := func(sql string) {
		t.Helper()
		_, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: sql})
		must.Do(t, err)
		conn := d.conn
		d.Finish()
		if !d.Reuse().IsPossible || d.conn != conn {
			t.Fatal("after Describe, the connection was not kept for the statement")
		}
	}
	const setSeed = "SELECT setseed(0.5)"
	withSeed := openDatabase(t, 64<<20)
	must.Do(t, withSeed.execute(setSeed))
	want := firstValue(t, withSeed, "SELECT random()::VARCHAR")
	describe(setSeed)
	d.discardStatement()
	if got := firstValue(t, d, "SELECT random()::VARCHAR"); got == want {
		t.Error("Describe ran the statement")
	}
	for range 3 {
		describe(setSeed)
		d.describedSQL = "SELECT nothere" // cannot be prepared, so Start must use the described statement
		runStatement(t, d, &Job{Memory: 64 << 20, SQL: d.describedSQL})
		if d.stmt.Ptr != nil || !d.Reuse().IsPossible {
			t.Fatal("a statement stays prepared after it ran")
		}
	}
	describe(setSeed)
	runStatement(t, d, &Job{Memory: 64 << 20, SQL: "SELECT 1"})
}

// TestRunDescribedTime describes statements that use the current time, and runs them later. The result must be
// the time of the run.
func TestRunDescribedTime(t *testing.T) {
	d := openDatabase(t, 64<<20)
	for _, now := range []string{"localtimestamp", "LocalTime", "current_localtimestamp()", `"current_localtime"()`, "now()", "get_current_time()"} {
		j := &Job{Memory: 64 << 20, SQL: "SELECT epoch_us(" + now + ")"}
		_, _, err := d.Describe(j)
		must.Do(t, err)
		d.Finish()
		wantReusable(t, d)
		var startMicros, runTime int64
		_, _ = fmt.Sscan(firstValue(t, openDatabase(t, 64<<20), j.SQL), &startMicros)
		r := must.Get(d.Start(t.Context(), j))(t)
		batch := must.Get(r.Next())(t)
		_, _ = fmt.Sscan(batch.Column(0).ValueStr(0), &runTime)
		batch.Release()
		if startMicros == 0 || runTime < startMicros && startMicros-runTime < 3600e6 { // a far earlier time is correct: midnight has passed
			t.Errorf("%s returns a time %d microseconds before it ran", now, startMicros-runTime)
		}
		if last, err := r.Next(); last != nil || err != nil {
			t.Errorf("got a second batch %v, error %v", last, err)
		}
		r.End()
		d.Finish()
		wantReusable(t, d)
	}
	if _, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: "SELECT age(TIMESTAMP '2020-01-01')"}); err != nil || d.describedSQL != "" {
		t.Errorf("Describe of a statement with age(): error %v, want nil and no prepared statement", err)
	}
}

// TestNoReuse checks which statements make a database unusable for further statements.
func TestNoReuse(t *testing.T) {
	ctx := context.Background()
	small := &Job{Memory: 64 << 20, SQL: "SELECT 1"}
	t.Run("unused", func(t *testing.T) {
		if openDatabase(t, 64<<20).Reuse().IsPossible {
			t.Error("an unconfined database can be reused")
		}
	})
	t.Run("too many statements", func(t *testing.T) {
		d := openDatabase(t, 64<<20)
		n := 1
		for runStatement(t, d, small); d.Reuse().IsPossible; runStatement(t, d, small) {
			n++
		}
		if n != maxStatements {
			t.Errorf("the database ran %d statements, want %d", n, maxStatements)
		}
	})
	for name, sql := range map[string]string{"failed to prepare": "SELECT nothere", "failed while running": "SELECT CASE WHEN range < 100000 THEN '1' ELSE 'x' END::INT FROM range(200000)", "unread": "SELECT * FROM range(100000)"} {
		t.Run(name, func(t *testing.T) {
			d := openDatabase(t, 64<<20)
			r, err := d.Start(ctx, &Job{Memory: 64 << 20, SQL: sql})
			if err == nil {
				for err == nil && name != "unread" {
					_, err = r.Next()
				}
				r.End()
			}
			d.Finish()
			if d.Reuse().IsPossible {
				t.Error("the database accepts another statement")
			}
		})
	}
	t.Run("other limits", func(t *testing.T) {
		d := openDatabase(t, 64<<20)
		runStatement(t, d, small)
		wantReusable(t, d)
		if _, err := d.Start(ctx, &Job{Memory: 32 << 20, SQL: "SELECT 1"}); err == nil {
			t.Error("a statement with another limit runs in the database")
		}
	})
	t.Run("connection setting", func(t *testing.T) {
		d := openDatabase(t, 64<<20)
		runStatement(t, d, &Job{Memory: 64 << 20, SQL: "SELECT 1", Spills: true})
		if d.Reuse().IsPossible {
			t.Error("the database accepts another statement")
		}
	})
	t.Run("leftover files", func(t *testing.T) {
		d := openDatabase(t, 64<<20)
		r := must.Get(d.Start(ctx, &Job{Memory: 64 << 20, SQL: "SELECT * FROM (SELECT hash(range) AS h, range::VARCHAR || repeat('x', 90) AS s FROM range(2000000)) ORDER BY h"}))(t)
		d.isIncomplete = false
		if d.Reuse().IsPossible {
			t.Error("the database accepts another statement")
		}
		r.End()
		d.Finish()
	})
}

// TestFullSpill runs a statement whose temporary files exceed their limit. The error must name the limit to raise.
func TestFullSpill(t *testing.T) {
	const memory = 64 << 20
	d, err := Open(&Options{Memory: memory, MaxTemp: 1 << 20, Threads: 1}, filepath.Join(t.TempDir(), "spill"))
	must.Do(t, err)
	defer d.Close()
	_, err = d.Start(t.Context(), &Job{SQL: "SELECT DISTINCT repeat('x', 100) || range FROM range(5000000)", Memory: memory, Spills: true})
	if want := "raise --max-spill"; !NeedsMemory(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("Start error = %v, want one with %q", err, want)
	}
}

// TestPrepareAgain checks that a repeated statement is prepared for its third run, unless its views or the current time
// could change.
func TestPrepareAgain(t *testing.T) {
	d := openDatabase(t, 64<<20)
	var holdsFiles bool
	run := func(sql, view string) (isPrepared bool) {
		t.Helper()
		runStatement(t, d, &Job{Memory: 64 << 20, SQL: sql, Views: []string{"CREATE OR REPLACE VIEW v AS SELECT " + view}, HoldsFiles: holdsFiles})
		wantReusable(t, d)
		d.PrepareAgain()
		return d.describedSQL != ""
	}
	const sql = "SELECT random() FROM v"
	if run(sql, "1") {
		t.Error("a statement is prepared after its first run, want later")
	}
	for n := 0; !run(sql, "1"); n++ { // on a busy machine, preparing can take longer than its limit
		if n == 20 {
			t.Fatal("a repeated statement is not prepared")
		}
	}
	if !run(sql, "1") {
		t.Error("a prepared statement is not prepared again after it ran")
	}
	d.describedSQL = "SELECT nothere" // cannot be prepared, so Start must use the prepared statement
	run(d.describedSQL, "1")
	for _, c := range []struct{ sql, view string }{{"SELECT 1", "1"}, {sql, "1"}, {sql, "2"}, {"SELECT localtime", "2"}, {"SELECT localtime", "2"}} {
		if run(c.sql, c.view) {
			t.Errorf("%s is prepared, want a statement that has run twice with the same views and does not use the time", c.sql)
		}
	}
	holdsFiles = true
	for range 3 {
		if run("SELECT 2", "2") {
			t.Error("a statement that keeps files open is prepared")
		}
	}
}
