package bulk_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/bulk"
)

// TestSort checks that rows come in the order of their keys, that equal keys keep their order, and that the types stay.
func TestSort(t *testing.T) {
	for _, by := range [][]string{{"key"}, {"word", "key"}, {"n"}, {"price"}, {"at"}} {
		want, _ := read(t, testRows(t, rand.New(rand.NewPCG(1, 0)), 2000, 10), nil)
		slices.SortStableFunc(want, func(a, b string) int {
			for _, name := range by {
				if c := strings.Compare(sortText(a, name), sortText(b, name)); c != 0 {
					return c
				}
			}
			return 0
		})
		r, err := bulk.Sort(t.Context(), testRows(t, rand.New(rand.NewPCG(1, 0)), 2000, 10), &bulk.SortOptions{By: by})
		got, columns := read(t, r, err)
		if !slices.Equal(got, want) || !sameTypes(columns, testColumns) {
			t.Errorf("sorted by %v: got %d rows with %v\n%v\nwant %d\n%v", by, len(got), columns, got[:10], len(want), want[:10])
		}
	}
}

// sortText returns a text that sorts like a column of a row in the form of read: null first, and numbers by their
// value.
func sortText(row, column string) string {
	_, text, _ := strings.Cut(row, column+"=")
	text = text[:strings.Index(text+" ", " ")]
	if column == "key" {
		_, text, _ = strings.Cut(row, "key=")
		text, _, _ = strings.Cut(text, " n=")
	}
	if text == "(null)" {
		return ""
	}
	if column == "n" || column == "price" {
		text = strings.Repeat("0", 30-len(text)) + text
	}
	return "v" + text
}

func TestSortRefuses(t *testing.T) {
	for by, want := range map[string]string{"list": `column "list" of type list<element: float64, nullable>: values of this type have no order`, "kay": `"key"`} {
		_, err := bulk.Sort(t.Context(), testRows(t, rand.New(rand.NewPCG(1, 0)), 10, 1), &bulk.SortOptions{By: []string{by}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Sort by %s = %v, want %q", by, err, want)
		}
	}
}

// TestOpen checks that files must have the same columns, in any order, and that text is read with the types of the
// first.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	first, second := write("1.csv", "a,b\n1.5,x\n"), write("2.csv", "b,a\ny,2\n")
	r, err := bulk.Open(t.Context(), first, second)
	if rows, _ := read(t, r, err); !slices.Equal(rows, []string{"a=1.5 b=x ", "a=2 b=y "}) {
		t.Errorf("got %q", rows)
	}
	r = must.Get(bulk.Open(t.Context(), first, write("3.csv", "a,c\n1,x\n")))(t)
	defer r.Release()
	for r.Next() {
	}
	if r.Err() == nil || !strings.Contains(r.Err().Error(), "3.csv: the columns") {
		t.Errorf("a file with other columns: %v, want an error", r.Err())
	}
}
