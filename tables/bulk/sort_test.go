package bulk_test

import (
	"errors"
	"math/rand/v2"
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
		slices.SortStableFunc(want, orderBy(by))
		r, err := bulk.Sort(t.Context(), testRows(t, rand.New(rand.NewPCG(1, 0)), 2000, 10), &bulk.SortOptions{By: by})
		got, columns := read(t, r, err)
		if !slices.Equal(got, want) || !sameTypes(columns, testColumns) {
			t.Errorf("sorted by %v: got %d rows with %v\n%v\nwant %d\n%v", by, len(got), columns, got[:10], len(want), want[:10])
		}
	}
}

// orderBy returns the order of rows in the form of read by some of their columns.
func orderBy(columns []string) func(a, b string) int {
	return func(a, b string) int {
		for _, name := range columns {
			if c := strings.Compare(sortText(a, name), sortText(b, name)); c != 0 {
				return c
			}
		}
		return 0
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
		must.Fail(t, err, want, "Sort by %s", by)
	}
}

// TestMerge checks that the merge of sorted inputs has the rows of Sort, with few inputs and with more than fit in memory.
func TestMerge(t *testing.T) {
	for _, count := range []int{1, 3, 60} {
		for _, distinct := range []bool{false, true} {
			o := &bulk.SortOptions{By: []string{"word", "key"}, Distinct: distinct}
			var inputs []bulk.MergeInput
			var all []string
			for i := range count {
				r, err := bulk.Sort(t.Context(), testRows(t, rand.New(rand.NewPCG(uint64(i), 0)), 300, 10), &bulk.SortOptions{By: o.By})
				rows, _ := read(t, r, err)
				all = append(all, rows...)
				r = must.Get(bulk.Sort(t.Context(), testRows(t, rand.New(rand.NewPCG(uint64(i), 0)), 300, 10), &bulk.SortOptions{By: o.By}))(t)
				defer r.Release()
				inputs = append(inputs, bulk.MergeInput{Name: "input", Rows: r})
			}
			order := orderBy(o.By)
			slices.SortStableFunc(all, order)
			if distinct {
				all = slices.CompactFunc(all, func(a, b string) bool { return order(a, b) == 0 })
			}
			r, err := bulk.Merge(t.Context(), inputs, o)
			got, columns := read(t, r, err)
			if !slices.Equal(got, all) || !sameTypes(columns, testColumns) {
				t.Errorf("%d inputs, distinct: %v: got %d rows, want %d", count, distinct, len(got), len(all))
			}
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	if _, err := bulk.Merge(t.Context(), nil, &bulk.SortOptions{By: []string{"key"}}); err == nil {
		t.Error("no inputs: no error")
	}
	unsorted := testRows(t, rand.New(rand.NewPCG(1, 0)), 300, 10)
	defer unsorted.Release()
	r := must.Get(bulk.Merge(t.Context(), []bulk.MergeInput{{Name: "x.csv", Rows: unsorted}}, &bulk.SortOptions{By: []string{"word", "n"}}))(t)
	defer r.Release()
	for r.Next() {
	}
	if !errors.Is(r.Err(), bulk.ErrNotSorted) || !strings.Contains(r.Err().Error(), "x.csv, row 4 comes before the previous row in the order of word,n") {
		t.Errorf("unsorted rows: %v", r.Err())
	}
}
