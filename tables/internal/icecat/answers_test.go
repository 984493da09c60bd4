package icecat

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// TestLookupIsCurrent checks that an answer is remembered until another connection, such as another
// process's, commits anything.
func TestLookupIsCurrent(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	c, err := Open(ctx, dir, Options{FS: vfs.OS{}, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	n := TableName{"ns", "t"}
	is := func(loc, rules string, wrong error) {
		t.Helper()
		for range 2 {
			gotLoc, gotRules, err := c.Lookup(ctx, n.Namespace, n.Name)
			if gotLoc != loc || gotRules != rules || !errors.Is(err, wrong) {
				t.Fatal(gotLoc, gotRules, err)
			}
			if _, known, _, err := c.answers.get(n); known != (wrong == nil) || err != nil {
				t.Fatalf("the answer is remembered: %v (%v)", known, err)
			}
		}
	}
	do := func(q string) {
		t.Helper()
		if _, err := other.Exec(q); err != nil {
			t.Fatal(err)
		}
		if _, known, _, _ := c.answers.get(n); known {
			t.Fatal("the answer is still remembered after ", q)
		}
	}
	is("", "", ErrNotFound)
	do(`INSERT INTO iceberg_tables VALUES ('partd', 'ns', 't', 'a', NULL, 'TABLE')`)
	is("a", "", nil)
	do(`UPDATE iceberg_tables SET metadata_location='b'`)
	is("b", "", nil)
	do(`INSERT INTO iceberg_namespace_properties VALUES ('partd', 'ns', 'partd.rules', 'price > 0')`)
	is("b", "price > 0", nil)

	_, _, version, err := c.answers.get(n)
	if err != nil {
		t.Fatal(err)
	}
	do(`DELETE FROM iceberg_tables`)
	if err := c.answers.put(n, answer{loc: "b"}, version); err != nil { // read before the change, put after it
		t.Fatal(err)
	}
	is("", "", ErrNotFound)
}

// TestAnswersAreBounded checks that the remembered answers have a limit in bytes, even if a
// namespace has long rules.
func TestAnswersAreBounded(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, version, err := c.answers.get(TableName{})
	if err != nil {
		t.Fatal(err)
	}
	is := answer{loc: "a", rules: strings.Repeat("x", 1<<20)} // SQLite returns a copy for each
	for i := range 100 {
		if err := c.answers.put(TableName{"ns", fmt.Sprint(i)}, is, version); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.answers.known); n == 0 || n > maxAnswers>>20 {
		t.Errorf("%d answers of a megabyte each are remembered", n)
	}
}
