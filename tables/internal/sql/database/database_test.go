//go:build cgo

package database

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestConfined executes forbidden statements directly, without checking their parse trees. The confined database
// must refuse them.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	ownFile, otherFile := filepath.Join(dir, "mine.csv"), filepath.Join(dir, "other.csv")
	for _, path := range []string{ownFile, otherFile} {
		must.Do(t, os.WriteFile(path, []byte("a\n1\n"), 0o600))
	}
	d := must.Get(Open(&Options{Memory: 512 << 20, MaxTemp: 1 << 30, Threads: 1}, filepath.Join(dir, "spill")))(t)
	defer d.Close()
	if err := d.execute("SELECT * FROM read_csv(" + sqltext.Text(otherFile) + ")"); err != nil {
		t.Fatal(err) // the database is unrestricted until it is confined
	}
	j := &Job{Memory: 1 << 30, Views: []string{`CREATE OR REPLACE VIEW "main"."t" AS SELECT NULL::BIGINT AS "a" WHERE false`}}
	must.Do(t, d.execute(append(confinement(j), j.Views...)...))
	for _, sql := range []string{
		"SELECT * FROM read_csv(" + sqltext.Text(otherFile) + ")", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM glob('/*')", "SELECT * FROM " + sqltext.Text(otherFile),
		"COPY (SELECT 1) TO " + sqltext.Text(filepath.Join(dir, "out")), "EXPLAIN ANALYZE COPY (SELECT 1) TO " + sqltext.Text(filepath.Join(dir, "out")), "ATTACH " + sqltext.Text(filepath.Join(dir, "db")),
		"EXPORT DATABASE " + sqltext.Text(dir), "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access=true", "SET lock_configuration=false", "SET memory_limit='1TB'",
		"SET allowed_paths=['/etc/passwd']", "RESET memory_limit", "PRAGMA threads=99", "SET temp_directory='/tmp'", "SET autoload_known_extensions=true",
	} {
		if err := d.execute(sql); err == nil {
			t.Errorf("%s succeeded, want an error", sql)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) > 3 {
		t.Errorf("a statement created a file: %q, %v", files, err)
	}
	must.Do(t, d.execute("SELECT * FROM t"))
}
