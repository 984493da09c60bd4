//go:build cgo

package database

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// again runs a statement in a database that is confined already, and reads its rows to their end.
func again(t *testing.T, d *Database, j *Job) {
	t.Helper()
	r, err := d.Start(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Finish()
	defer r.End()
	for {
		batch, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if batch == nil {
			return
		}
		batch.Release()
	}
}

func opened(t *testing.T, memory int64) *Database {
	t.Helper()
	d, err := Open(&Options{Memory: memory, MaxTemp: 1 << 30, Threads: 2}, filepath.Join(t.TempDir(), "spill"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// TestAgain has what a statement might leave in its database, which another one must not have:
// temporary tables, variables, prepared statements, a transaction, a search path, a state of random, and memory.
func TestAgain(t *testing.T) {
	t.Setenv("TZ", "America/New_York")
	d := opened(t, 512<<20)
	file := filepath.Join(t.TempDir(), "rows.parquet")
	if err := d.execute("COPY (SELECT range AS a, hash(range) AS b FROM range(2000000)) TO '" + file + "'"); err != nil {
		t.Fatal(err)
	}
	j := &Job{Memory: 512 << 20, Paths: []string{file}, Views: []string{`CREATE VIEW "main"."t" AS FROM read_parquet('` + file + `')`}}
	j.SQL = "SELECT max(b), count(DISTINCT a) FROM t"
	again(t, d, j)
	const leaves = "SELECT setseed(0.5)"
	for _, sql := range []string{"CREATE TEMP TABLE x AS SELECT 1 AS a", "SET VARIABLE v = 'secret'", "PREPARE p AS SELECT 1", "SET search_path = 'temp'", leaves, "BEGIN"} {
		if err := d.execute(sql); err != nil {
			t.Fatal(sql, err)
		}
	}
	seeded := opened(t, 512<<20)
	if err := seeded.execute(leaves); err != nil {
		t.Fatal(err)
	}
	const random = "SELECT random()::VARCHAR"
	want := words(t, seeded, random)
	if got := words(t, d, random); got != want {
		t.Fatalf("random is %s after a seed, and %s", got, want)
	}
	if err := d.execute(leaves); err != nil {
		t.Fatal(err)
	}
	if !d.Again() {
		t.Fatal("it is not ready for another statement")
	}
	if got := words(t, d, random); got == want {
		t.Error("random goes on where another statement has set it")
	}
	for _, sql := range []string{"SELECT * FROM x", "EXECUTE p", "COMMIT", "SET memory_limit='1TB'"} {
		if err := d.execute(sql); err == nil {
			t.Errorf("%s: there is what another statement left", sql)
		}
	}
	if got := words(t, d, "SELECT coalesce(getvariable('v')::VARCHAR, '') || current_schema()"); got != "main" {
		t.Error("a variable of another statement, or its search path:", got)
	}
	if got := words(t, d, "SELECT count(*)::VARCHAR FROM duckdb_external_file_cache()"); got != "0" {
		t.Error("what another statement has read:", got)
	}
	if got := words(t, d, "SELECT CASE WHEN sum(memory_usage_bytes) < 1 << 20 THEN 'little' ELSE sum(memory_usage_bytes)::VARCHAR END FROM duckdb_memory()"); got != "little" {
		t.Error("memory of another statement:", got)
	}
	err := d.execute("SELECT nothere FROM t")
	if err == nil || strings.Contains(err.Error(), "LINE") || !strings.Contains(err.Error(), "Binder error: ") {
		t.Error("an error of another statement has another form:", err)
	}
	if got := words(t, d, "SELECT make_timestamptz(0)::VARCHAR"); got != "1970-01-01 00:00:00+00" {
		t.Error("the time zone is not UTC:", got)
	}
}

// TestDescribedRuns runs a statement that was described before, in its connection, and prepares it once.
func TestDescribedRuns(t *testing.T) {
	d := opened(t, 64<<20)
	describe := func(sql string) {
		t.Helper()
		if _, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: sql}); err != nil {
			t.Fatal(err)
		}
		conn := d.conn
		d.Finish()
		if !d.Again() || d.conn != conn {
			t.Fatal("its connection is not ready for the statement")
		}
	}
	const seeds = "SELECT setseed(0.5)"
	seeded := opened(t, 64<<20)
	if err := seeded.execute(seeds); err != nil {
		t.Fatal(err)
	}
	want := words(t, seeded, "SELECT random()::VARCHAR")
	describe(seeds)
	d.forget()
	if got := words(t, d, "SELECT random()::VARCHAR"); got == want {
		t.Error("a statement that was described has run")
	}
	for range 3 {
		describe(seeds)
		d.ready = "SELECT nothere" // which cannot be prepared
		again(t, d, &Job{Memory: 64 << 20, SQL: d.ready})
		if d.stmt.Ptr != nil || !d.Again() {
			t.Fatal("a statement that ran is left")
		}
	}
	describe(seeds)
	again(t, d, &Job{Memory: 64 << 20, SQL: "SELECT 1"})
}

// TestDescribedTimes describes statements, and runs them later: they have the time at which they run.
func TestDescribedTimes(t *testing.T) {
	d := opened(t, 64<<20)
	for _, now := range []string{"localtimestamp", "LocalTime", "current_localtimestamp()", `"current_localtime"()`, "now()", "get_current_time()"} {
		j := &Job{Memory: 64 << 20, SQL: "SELECT epoch_us(" + now + ")"}
		if _, _, err := d.Describe(j); err != nil {
			t.Fatal(err)
		}
		d.Finish()
		if !d.Again() {
			t.Fatal("it is not ready for the statement")
		}
		var before, at int64
		_, _ = fmt.Sscan(words(t, opened(t, 64<<20), j.SQL), &before)
		r, err := d.Start(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		batch, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscan(batch.Column(0).ValueStr(0), &at)
		batch.Release()
		if before == 0 || at < before && before-at < 3600e6 { // not over midnight
			t.Errorf("%s is that of before it ran, by %d microseconds", now, before-at)
		}
		if last, err := r.Next(); last != nil || err != nil {
			t.Error(last, err)
		}
		r.End()
		if d.Finish(); !d.Again() {
			t.Fatal("it is not ready for another statement")
		}
	}
	if _, _, err := d.Describe(&Job{Memory: 64 << 20, SQL: "SELECT age(TIMESTAMP '2020-01-01')"}); err != nil || d.ready != "" {
		t.Errorf("an age stays prepared for another day; %v", err)
	}
}

// TestNotAgain has what ends the use of a database.
func TestNotAgain(t *testing.T) {
	ctx := context.Background()
	small := &Job{Memory: 64 << 20, SQL: "SELECT 1"}
	t.Run("unused", func(t *testing.T) {
		if opened(t, 64<<20).Again() {
			t.Error("nobody has said what it may read")
		}
	})
	t.Run("many", func(t *testing.T) {
		d := opened(t, 64<<20)
		n := 1
		for again(t, d, small); d.Again(); again(t, d, small) {
			n++
		}
		if n != maxStatements {
			t.Errorf("%d statements", n)
		}
	})
	for name, sql := range map[string]string{"failed": "SELECT nothere", "failed late": "SELECT CASE WHEN range < 100000 THEN '1' ELSE 'x' END::INT FROM range(200000)", "unread": "SELECT * FROM range(100000)"} {
		t.Run(name, func(t *testing.T) {
			d := opened(t, 64<<20)
			r, err := d.Start(ctx, &Job{Memory: 64 << 20, SQL: sql})
			if err == nil {
				for err == nil && name != "unread" {
					_, err = r.Next()
				}
				r.End()
			}
			d.Finish()
			if d.Again() {
				t.Error("it has another statement")
			}
		})
	}
	t.Run("other limits", func(t *testing.T) {
		d := opened(t, 64<<20)
		again(t, d, small)
		if !d.Again() {
			t.Fatal("it has no other statement")
		}
		if _, err := d.Start(ctx, &Job{Memory: 32 << 20, SQL: "SELECT 1"}); err == nil {
			t.Error("a statement with another limit runs in it")
		}
	})
	t.Run("set for a connection", func(t *testing.T) {
		d := opened(t, 64<<20)
		again(t, d, &Job{Memory: 64 << 20, SQL: "SELECT 1", Spills: true})
		if d.Again() {
			t.Error("it has another statement")
		}
	})
	t.Run("files are left", func(t *testing.T) {
		d := opened(t, 64<<20)
		r, err := d.Start(ctx, &Job{Memory: 64 << 20, SQL: "SELECT * FROM (SELECT hash(range) AS h, range::VARCHAR || repeat('x', 90) AS s FROM range(2000000)) ORDER BY h"})
		if err != nil {
			t.Fatal(err)
		}
		d.begun = false
		if d.Again() {
			t.Error("it has another statement")
		}
		r.End()
		d.Finish()
	})
}
