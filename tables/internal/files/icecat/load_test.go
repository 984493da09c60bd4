package icecat

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestLookupIsCurrent checks that an answer is cached until another connection, for example of another
// process, commits.
func TestLookupIsCurrent(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	c := must.Get(Open(ctx, dir, Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer c.Close()
	other := must.Get(sql.Open("sqlite", filepath.Join(dir, "catalog.db")))(t)
	defer other.Close()
	n := TableName{"ns", "t"}
	expect := func(loc, rules string, wantErr error) {
		t.Helper()
		for range 2 {
			gotLoc, gotRules, err := c.Lookup(ctx, n.Namespace, n.Name)
			if gotLoc != loc || gotRules != rules || !errors.Is(err, wantErr) {
				t.Fatalf("Lookup = %q, %q, %v, want %q, %q, %v", gotLoc, gotRules, err, loc, rules, wantErr)
			}
			if _, isCached, _, err := c.answers.get(n); isCached != (wantErr == nil) || err != nil {
				t.Fatalf("answers.get(%v): cached = %v, error %v; want true only if Lookup succeeds", n, isCached, err)
			}
		}
	}
	exec := func(q string) {
		t.Helper()
		must.Get(other.Exec(q))(t)
		if _, isCached, _, _ := c.answers.get(n); isCached {
			t.Fatal("the answer is still cached after ", q)
		}
	}
	expect("", "", ErrNotFound)
	exec(`INSERT INTO iceberg_tables VALUES ('partd', 'ns', 't', 'a', NULL, 'TABLE')`)
	expect("a", "", nil)
	exec(`UPDATE iceberg_tables SET metadata_location='b'`)
	expect("b", "", nil)
	exec(`INSERT INTO iceberg_namespace_properties VALUES ('partd', 'ns', 'partd.rules', 'price > 0')`)
	expect("b", "price > 0", nil)

	_, _, version, err := c.answers.get(n)
	must.Do(t, err)
	exec(`DELETE FROM iceberg_tables`)
	must.Do(t, c.answers.put(n, answer{location: "b"}, version)) // read before the change, but put after it
	expect("", "", ErrNotFound)
}

// TestAnswersAreBounded checks that the cached answers have a limit in bytes, even if a namespace has long
// rules.
func TestAnswersAreBounded(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}, CacheBytes: 1 << 20}))(t)
	defer c.Close()
	_, _, version, err := c.answers.get(TableName{})
	must.Do(t, err)
	large := answer{location: "a", rules: strings.Repeat("x", 1<<20)} // each cached answer counts its own copy of the rules
	for i := range 100 {
		must.Do(t, c.answers.put(TableName{"ns", fmt.Sprint(i)}, large, version))
	}
	if n := len(c.answers.entries); n == 0 || n > maxAnswerBytes>>20 {
		t.Errorf("%d answers of a megabyte each are cached, want at least 1 and at most maxAnswerBytes in total", n)
	}
}

// TestDecodedCost checks that the cost of a text increases with its values and levels, and that texts are
// refused if decoding them would need far more memory or time than their size suggests.
func TestDecodedCost(t *testing.T) {
	deep := func(levels, length int) string {
		return strings.Repeat("[", levels) + `"` + strings.Repeat("x", length) + `"` + strings.Repeat("]", levels)
	}
	for _, c := range []struct {
		name, text string
		cost       int64 // 0 if an error is expected
		err        string
	}{
		{name: "one value", text: `{"a":"` + strings.Repeat("x", 92) + `"}`, cost: 6*100 + 64},
		{name: "brackets in a text", text: `["[[,,{\"[,"]`, cost: 6*13 + 64},
		{name: "short values", text: `[1,2,{"a":3,"b":4}]`, cost: 6*19 + 64*5},
		{name: "too many values", text: "[" + strings.Repeat("{},", 600_000) + "{}]", err: "has more than 1048576 values"},
		{name: "levels", text: deep(100, 1<<20), cost: 101<<20 + 2*101 + 5050 + 5150 + 100*64},
		{name: "too many levels", text: deep(200, 1<<20), err: "is nested too deeply"},
	} {
		cost, err := DecodedCost([]byte(c.text))
		if cost != c.cost || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: DecodedCost = %d, %v, want %d, %q", c.name, cost, err, c.cost, c.err)
		}
	}
}
