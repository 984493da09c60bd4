package shuffle_test

import (
	"cmp"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// rec is a record with its number in the input.
type rec struct {
	Small int16
	Text  string
	N     int
}

// randomRecs returns more records than fit in the minimum memory. Half of them have one key.
func randomRecs(seed uint64, n int) []rec {
	r := rand.New(rand.NewPCG(seed, 1))
	recs := make([]rec, n)
	for i := range recs {
		recs[i] = rec{int16(r.IntN(200) - 100), fmt.Sprint("text ", r.IntN(5000)), i}
		if i%2 == 0 {
			recs[i].Text = "half"
		}
	}
	return recs
}

const manyRecords = 150_000

// minMemory returns options with the minimum memory and a temporary directory that must be empty at the end.
func minMemory[T any](t *testing.T) *shuffle.Options[T] {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { checkEmpty(t, dir) })
	return &shuffle.Options[T]{Memory: shuffle.MinMemory, Threads: 2, TempDirs: []string{dir}}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	remaining := must.Get(os.ReadDir(dir))(t)
	for _, e := range remaining {
		t.Errorf("%s was not removed from the directory for temporary data", e.Name())
	}
}

// feedInParts feeds records from several goroutines, one part each, in order.
func feedInParts[T any](t *testing.T, feed func() (*shuffle.Feed[T], error), all []T, parts int) {
	t.Helper()
	var wg sync.WaitGroup
	for part := range slices.Chunk(all, len(all)/parts+1) {
		wg.Go(func() {
			f, err := feed()
			if err != nil {
				t.Error(err)
				return
			}
			for _, v := range part {
				if err := f.Add(v); err != nil {
					t.Error(err)
					break
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Add(part[0]); err == nil {
				t.Error("Add() to a closed feed returned no error")
			}
		})
	}
	wg.Wait()
}

func mustCollect[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	all := must.Get(shuffle.Collect(seq))(t)
	return all
}

var (
	byTextAndSmall = shuffle.By(
		shuffle.Desc(func(r rec) string { return r.Text }),
		shuffle.Asc(func(r rec) int16 { return r.Small }),
	)
	text = func(r rec) string { return r.Text }
)

func compareRecs(a, b rec) int {
	return cmp.Or(strings.Compare(b.Text, a.Text), cmp.Compare(a.Small, b.Small))
}

func TestGroupBy(t *testing.T) {
	in := randomRecs(3, manyRecords)
	want := make(map[string][]rec)
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(in...), text, minMemory[rec](t)) {
		must.Do(t, err)
		if got := mustCollect(t, g.Values); !slices.Equal(got, want[g.Key]) {
			t.Fatalf("group %q has wrong content: %d records, want %d", g.Key, len(got), len(want[g.Key]))
		}
		delete(want, g.Key)
	}
	if len(want) > 0 {
		t.Errorf("%d groups are missing", len(want))
	}
}

// TestGroupsReadInPart checks that a group need not be read to its end, but cannot be read after the next group was
// requested.
func TestGroupsReadInPart(t *testing.T) {
	in := randomRecs(4, manyRecords)
	g := must.Get(shuffle.NewGrouper(t.Context(), text, minMemory[rec](t)))(t)
	feedInParts(t, g.Feed, in, 3)
	var previousValues iter.Seq2[rec, error]
	groups := make(map[string]bool)
	for group, err := range g.Groups() {
		must.Do(t, err)
		if previousValues != nil {
			if _, err := shuffle.Collect(previousValues); err == nil {
				t.Fatal("reading the values of an earlier group returned no error")
			}
		}
		previousValues = group.Values
		groups[group.Key] = true
		n := 0
		for r, err := range group.Values {
			if err != nil || r.Text != group.Key {
				t.Fatalf("group %q yields %v, error %v; want a record of this group", group.Key, r, err)
			}
			if n++; n == 3 {
				break
			}
		}
	}
	if st := g.Stats(); st.Records != manyRecords || st.Groups != int64(len(groups)) {
		t.Errorf("Stats() = %+v, want %d records and %d groups", st, manyRecords, len(groups))
	}
	must.Do(t, g.Close())
}

// TestGroupsAfterTheLoop checks that reading a group's values after the loop is an error, even for the last group.
func TestGroupsAfterTheLoop(t *testing.T) {
	var groups []shuffle.Group[string, rec]
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(randomRecs(1, 1000)...), text, minMemory[rec](t)) {
		must.Do(t, err)
		groups = append(groups, g)
	}
	for i, g := range groups {
		if values, err := shuffle.Collect(g.Values); err == nil {
			t.Errorf("group %d of %d: read %d values without an error", i+1, len(groups), len(values))
		}
	}
}
