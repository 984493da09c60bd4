package mergejoin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/testutil/must"
)

type pair struct{ key, record string }

// model is a simple implementation of all joins.
func model(left, right []pair, kind Kind, matchEmpty bool) (rows []string) {
	matches := func(a, b pair) bool { return a.key == b.key && (matchEmpty || a.key != "") }
	for _, l := range left {
		matched := false
		for _, r := range right {
			if matches(l, r) {
				matched = true
				if kind.Pairs() {
					rows = append(rows, l.record+"+"+r.record)
				}
			}
		}
		if matched && kind == Semi || !matched && kind.LeftUnmatched() {
			rows = append(rows, l.record+"-")
		}
	}
	for _, r := range right {
		if kind.RightUnmatched() && !slices.ContainsFunc(left, func(l pair) bool { return matches(l, r) }) {
			rows = append(rows, "-"+r.record)
		}
	}
	slices.Sort(rows)
	return rows
}

func newSorter(t *testing.T, temp *tempdir.Set, records []pair) *extsort.Sorter {
	t.Helper()
	s := must.Get(extsort.New(t.Context(), &extsort.Options{Memory: extsort.MinMemory, Threads: 1, Temp: temp, KeepKeys: true}))(t)
	t.Cleanup(func() { must.Do(t, s.Close()) })
	w := must.Get(s.Writer())(t)
	for _, r := range records {
		must.Do(t, w.Add([]byte(r.key), []byte(r.record)))
	}
	must.Do(t, w.Close())
	return s
}

func newTemp(t *testing.T) *tempdir.Set {
	t.Helper()
	temp := must.Get(tempdir.New([]string{t.TempDir()}, nil))(t)
	t.Cleanup(func() { must.Do(t, temp.Close()) })
	return temp
}

func TestJoinsMatchModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	newSide := func(name string, n, keys int, long int) (all []pair) {
		for i := range n {
			key := fmt.Sprint("key", rnd.IntN(keys))
			switch rnd.IntN(6) {
			case 0:
				key = "hot"
			case 1:
				key = ""
			}
			all = append(all, pair{key, fmt.Sprint(name, i, strings.Repeat("x", rnd.IntN(long)))})
		}
		return all
	}
	for trial := range 30 {
		left, right := newSide("l", rnd.IntN(200), 1+rnd.IntN(100), 40), newSide("r", rnd.IntN(200), 1+rnd.IntN(100), 40)
		if trial%3 == 0 { // empty records
			left = append(left, pair{"key1", ""}, pair{"hot", ""})
			right = append(right, pair{"key1", ""})
		}
		for kind := Inner; kind <= Anti; kind++ {
			for _, matchEmpty := range []bool{false, true} {
				for _, memory := range []int64{64, 1000, 1 << 20} {
					temp := newTemp(t)
					var rows []string
					stats := must.Get(Join(t.Context(), newSorter(t, temp, left), newSorter(t, temp, right),
						Options{Kind: kind, MatchEmpty: matchEmpty, Memory: memory, Temp: temp},
						func(l, r []byte) error {
							sep := "+"
							if l == nil || r == nil {
								sep = "-"
							}
							rows = append(rows, string(l)+sep+string(r))
							return nil
						}))(t)
					slices.Sort(rows)
					if want := model(left, right, kind, matchEmpty); !slices.Equal(rows, want) || stats.Rows != int64(len(want)) {
						t.Fatalf("trial %d, kind %d, match empty %v, memory %d: %d rows, want %d: %q, want %q", trial, kind, matchEmpty, memory, len(rows), len(want), rows, want)
					}
					if kind.Pairs() && memory == 64 && len(left) > 150 && len(right) > 50 && stats.Spilled == 0 {
						t.Errorf("trial %d: Join spilled nothing", trial)
					}
				}
			}
		}
	}
}

// TestHotKeyWithinMemory checks that records with the same key are joined even if they do not fit in
// memory, and that the join stops when the context ends or emit fails.
func TestHotKeyWithinMemory(t *testing.T) {
	temp := newTemp(t)
	var left, right []pair
	for i := range 3000 {
		left = append(left, pair{"hot", fmt.Sprintf("%0100d", i)})
		right = append(right, pair{"hot", fmt.Sprintf("%0100d", i)})
	}
	rows, sum := 0, 0
	o := Options{Memory: 32 << 10, Temp: temp}
	stats, err := Join(t.Context(), newSorter(t, temp, left), newSorter(t, temp, right), o, func(l, r []byte) error {
		rows++
		sum += int(l[99]) * int(r[99])
		return nil
	})
	if err != nil || rows != 9_000_000 || stats.Spilled < 300_000 {
		t.Errorf("Join emitted %d rows and returned %+v, %v, want 9000000 rows and some spilled bytes", rows, stats, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	errEnough := errors.New("enough")
	_, err = Join(ctx, newSorter(t, temp, left), newSorter(t, temp, right), o, func(l, r []byte) error {
		cancel(errEnough)
		return nil
	})
	must.Fail(t, err, errEnough, "Join with a canceled context")
	if _, err = Join(t.Context(), newSorter(t, temp, left), newSorter(t, temp, right), o, func(l, r []byte) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Errorf("Join with a failing emit = %v, want %v", err, errEnough)
	}
}

// TestEmptyRecordsUseMemory checks that empty records count against the memory, because each needs an entry.
func TestEmptyRecordsUseMemory(t *testing.T) {
	temp := newTemp(t)
	var left []pair
	for range 10_000 {
		left = append(left, pair{"hot", ""})
	}
	right := []pair{{"hot", "1"}, {"hot", "2"}}
	rows := 0
	o := Options{Memory: 32 << 10, Temp: temp}
	stats, err := Join(t.Context(), newSorter(t, temp, left), newSorter(t, temp, right), o, func(l, r []byte) error {
		rows++
		return nil
	})
	if err != nil || rows != 20_000 || stats.Spilled == 0 {
		t.Errorf("Join emitted %d rows and returned %+v, %v, want 20000 rows and some spilled bytes", rows, stats, err)
	}
}
