//go:build cgo

package duck_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestMemoryAndTemporaryFiles(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{Memory: 64 << 20, Threads: 2, TempDir: temp})
	sorted := "SELECT * FROM (SELECT hash(range) AS h, range::VARCHAR || repeat('x', 90) AS s FROM range(2000000)) ORDER BY h"
	r, err := s.Query(t.Context(), sorted, nil)
	must.Do(t, err)
	spilled := int64(0)
	err = filepath.WalkDir(temp, func(path string, d os.DirEntry, err error) error {
		if info, ierr := d.Info(); ierr == nil && strings.Contains(path, "spill-") {
			spilled += info.Size()
		}
		return err
	})
	if err != nil || spilled < 50<<20 {
		t.Errorf("sorting 200 MB with 64 MiB of memory spilled %d bytes, want at least 50 MiB; error: %v", spilled, err)
	}
	if n, err := tabletest.CountRows(r); err != nil || n != 2_000_000 {
		t.Errorf("got %d rows, error %v; want 2,000,000", n, err)
	}
	must.Eventually(t, 5*time.Second, "spilled files remain", func() bool { // the database closes in the background
		files, err := filepath.Glob(filepath.Join(temp, "*", "*", "spill-*", "*"))
		return err == nil && len(files) == 0
	})
	// A list cannot spill, so the statement fails.
	_, err = rows(t, s, "SELECT list(range) FROM range(100000000)", &tables.QueryOptions{Memory: 32 << 20})
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "memory") {
		t.Errorf("a list of 800 MB with a limit of 32 MiB: error = %v, want out of memory", err)
	}
}

// TestScratch checks that an unchanged tail is written to a scratch file only once, and that old files are removed.
func TestScratch(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{TempDir: temp})
	fileCount := func() int {
		return len(must.Get(filepath.Glob(filepath.Join(temp, "*", "*", "rows-*.parquet")))(t))
	}
	put(t, s, "b", "t", numbers(0, 10))
	for range 3 {
		expect(t, s, "SELECT count(*) FROM b.t", nil, "10")
		if n := fileCount(); n != 1 {
			t.Errorf("got %d scratch files, want 1", n)
		}
	}
	for i := range int64(5) {
		put(t, s, "b", "t", numbers(i, i+1))
		expect(t, s, "SELECT count(*) FROM b.t", nil, fmt.Sprint(11+i))
	}
	if n := fileCount(); n != 1 {
		t.Errorf("after the tail changed, got %d scratch files, want 1", n)
	}
	for i := range 40 {
		put(t, s, "many", fmt.Sprint(i), numbers(0, 1))
		expect(t, s, fmt.Sprintf(`SELECT count(*) FROM many."%d"`, i), nil, "1")
	}
	if n := fileCount(); n > 32 {
		t.Errorf("got %d scratch files for 41 tables, want at most 32", n)
	}
}

func TestNoLeftovers(t *testing.T) {
	temp := t.TempDir()
	before := runtime.NumGoroutine()
	t.Run("queries", func(t *testing.T) {
		s := newStore(t, &duck.Options{TempDir: temp})
		put(t, s, "b", "t", numbers(0, 10))
		for range 5 {
			expect(t, s, "SELECT count(*) FROM b.t", nil, "10")
		}
	})
	files, err := os.ReadDir(temp)
	if err != nil || len(files) > 0 {
		t.Errorf("the temporary directory contains %+v, want it empty; error: %v", files, err)
	}
	must.Eventually(t, time.Second, "goroutines remain", func() bool { return runtime.NumGoroutine() <= before })
}

// TestSharedDatabases alternates statements that can share a database with statements that cannot.
// Each statement must read its own tables, in their current state, with its own memory limit.
func TestSharedDatabases(t *testing.T) {
	for _, separateProcesses := range []bool{false, true} {
		t.Run(fmt.Sprintf("separate processes %v", separateProcesses), func(t *testing.T) {
			s := newStore(t, &duck.Options{Processes: separateProcesses, Threads: 1})
			put(t, s, "b", "t", numbers(0, 10))
			put(t, s, "c", "t", numbers(0, 20))
			fold(t, s)
			pause := func() { // wait until the database is idle again
				if separateProcesses {
					time.Sleep(20 * time.Millisecond)
				}
			}
			expectIn := func(bucket, sql string, want ...string) {
				t.Helper()
				expect(t, s, sql, &tables.QueryOptions{Bucket: bucket}, want...)
				pause()
			}
			const listSQL = "SELECT len(list(range)) FROM range(8000000)"
			for range 20 { // more rounds than there are databases
				expectIn("b", "SELECT count(*) FROM t", "10")
				expectIn("c", "SELECT count(*) FROM t", "20")
				expectIn("b", "SELECT count(*) FROM t, c.t AS u", "200")
				expectIn("b", "SELECT max(k) FROM t", "9")
			}
			for i := range 3 {
				expect(t, s, listSQL, nil, "8000000")
				pause()
				_, err := rows(t, s, listSQL, &tables.QueryOptions{Memory: 32 << 20})
				if err == nil || !strings.Contains(strings.ToLower(err.Error()), "memory") {
					t.Errorf("a list of 64 MB with a limit of 32 MiB: error = %v, want out of memory", err)
				}
				pause()
				put(t, s, "b", "t", numbers(0, 10))
				expectIn("b", "SELECT count(*) FROM t", fmt.Sprint(10*(i+2)))
				if _, err := rows(t, s, "SELECT count(*) FROM t", nil); err == nil {
					t.Error("a statement read a table from another statement's bucket, want an error")
				}
				pause()
			}
		})
	}
}

// TestMemoryOfEarlierStatement runs a long statement after statements with a very low memory limit. The low limit must
// not affect the long statement.
func TestMemoryOfEarlierStatement(t *testing.T) {
	long := "SELECT 1 IN (" + strings.Repeat("1,", 40_000) + "1)"
	for _, separateProcesses := range []bool{false, true} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprintf("separate processes %v, memory %d", separateProcesses, memory), func(t *testing.T) {
				s := newStore(t, &duck.Options{Processes: separateProcesses, Threads: 1})
				for range 3 {
					expect(t, s, "SELECT 1", &tables.QueryOptions{Memory: memory}, "1")
					time.Sleep(20 * time.Millisecond) // wait until the statement's database is idle
				}
				if got, err := rows(t, s, long, nil); err != nil || fmt.Sprint(got) != "[true]" {
					t.Errorf("the long statement returned %v, error %v; want [true]", got, err)
				}
			})
		}
	}
}
