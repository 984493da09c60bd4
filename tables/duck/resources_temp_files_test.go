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
	n := int64(0)
	for r.Next() {
		n += r.RecordBatch().NumRows()
	}
	if r.Err() != nil || n != 2_000_000 {
		t.Errorf("got %d rows, error %v; want 2,000,000", n, r.Err())
	}
	r.Release()
	for tries := 0; ; tries++ { // the database closes in the background
		files, err := filepath.Glob(filepath.Join(temp, "*", "*", "spill-*", "*"))
		if err == nil && len(files) == 0 {
			break
		}
		if time.Sleep(10 * time.Millisecond); tries == 500 {
			t.Fatalf("files %v remain; error: %v", files, err)
		}
	}
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
		files := must.Get(filepath.Glob(filepath.Join(temp, "*", "*", "rows-*.parquet")))(t)
		return len(files)
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
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines remain, want at most %d", runtime.NumGoroutine(), before)
}
