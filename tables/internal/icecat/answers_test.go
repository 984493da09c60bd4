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

// TestLookupIsOfNow: an answer is remembered until another connection, as of another
// process, commits anything, and no longer.
func TestLookupIsOfNow(t *testing.T) {
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
			if _, known, _, err := c.known.get(n); known != (wrong == nil) || err != nil {
				t.Fatalf("it is known: %v (%v)", known, err)
			}
		}
	}
	do := func(q string) {
		t.Helper()
		if _, err := other.Exec(q); err != nil {
			t.Fatal(err)
		}
		if _, known, _, _ := c.known.get(n); known {
			t.Fatal("it is known after ", q)
		}
	}
	is("", "", ErrNotFound)
	do(`INSERT INTO iceberg_tables VALUES ('partd', 'ns', 't', 'a', NULL, 'TABLE')`)
	is("a", "", nil)
	do(`UPDATE iceberg_tables SET metadata_location='b'`)
	is("b", "", nil)
	do(`INSERT INTO iceberg_namespace_properties VALUES ('partd', 'ns', 'partd.rules', 'price > 0')`)
	is("b", "price > 0", nil)

	_, _, version, err := c.known.get(n)
	if err != nil {
		t.Fatal(err)
	}
	do(`DELETE FROM iceberg_tables`)
	if err := c.known.put(n, answer{loc: "b"}, version); err != nil { // read before, told after
		t.Fatal(err)
	}
	is("", "", ErrNotFound)
}

// TestAnswersAreBounded: what is remembered has few bytes, however long a namespace's rules are.
func TestAnswersAreBounded(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _, version, err := c.known.get(TableName{})
	if err != nil {
		t.Fatal(err)
	}
	is := answer{loc: "a", rules: strings.Repeat("x", 1<<20)} // each is a copy where SQLite gives it
	for i := range 100 {
		if err := c.known.put(TableName{"ns", fmt.Sprint(i)}, is, version); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.known.known); n == 0 || n > mostAnswers>>20 {
		t.Errorf("%d answers of a megabyte each are remembered", n)
	}
}
