package cli

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// rowsFile generates a file. It returns the file's name, and the rows that an independent reader finds.
func rowsFile(t *testing.T, o benchdata.CSVOptions) (file string, rows [][]string) {
	t.Helper()
	if procs.RaceEnabled {
		o.Rows /= 5
	}
	file = filepath.Join(t.TempDir(), "rows.csv")
	f := must.Get(os.Create(file))(t)
	must.Do(t, errors.Join(benchdata.WriteCSV(f, o), f.Close()))
	return file, readCSV(t, file)[1:]
}

func readCSV(t *testing.T, file string) [][]string {
	t.Helper()
	f := must.Get(os.Open(file))(t)
	defer f.Close()
	return must.Get(csv.NewReader(f).ReadAll())(t)
}

// outputRows runs partd with 16 MiB of memory, and returns the rows of its output file.
func outputRows(t *testing.T, args ...string) [][]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.csv")
	succeed(t, append(args, "--memory", "16MiB", "-o", out)...)
	rows := readCSV(t, out)[1:]
	must.Do(t, os.Remove(out)) // temporary directories may be small
	return rows
}

var shapes = []benchdata.CSVOptions{
	{Rows: 110_000, Keys: 50_000, Seed: 7, Quoted: true},
	{Rows: 110_000, Keys: 50, Dist: "half", Seed: 8},
}

func number(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return f
}

// naiveAggregates computes the aggregates of one key's rows in a simple way.
func naiveAggregates(rows [][]string) []string {
	v1, v2, squares := new(big.Int), new(big.Float).SetPrec(300), new(big.Float).SetPrec(300)
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	distinct := map[string]bool{}
	var list []string
	for _, r := range rows {
		n, _ := strconv.ParseInt(r[2], 10, 64)
		v1.Add(v1, big.NewInt(n))
		low, high = min(low, n), max(high, n)
		f := big.NewFloat(number(r[3])).SetPrec(300)
		v2.Add(v2, f)
		squares.Add(squares, new(big.Float).Mul(f, f))
		distinct[r[4]] = true
		list = append(list, r[0])
	}
	n := new(big.Float).SetInt64(int64(len(rows)))
	sum, _ := v2.Float64()
	mean, _ := new(big.Float).Quo(v2, n).Float64()
	deviation := ""
	if len(rows) > 1 {
		rest := new(big.Float).Sub(squares, new(big.Float).Quo(new(big.Float).Mul(v2, v2), n))
		variance, _ := rest.Quo(rest, big.NewFloat(float64(len(rows)-1))).Float64()
		deviation = fmt.Sprint(math.Sqrt(variance))
	}
	return []string{
		rows[0][1], fmt.Sprint(len(rows)), v1.String(), fmt.Sprint(sum), fmt.Sprint(mean), fmt.Sprint(low), fmt.Sprint(high),
		deviation, rows[0][0], rows[len(rows)-1][0], fmt.Sprint(len(distinct)), strings.Join(list, ";"),
	}
}

const modelAggregates = "count,sum(v1),sum(v2),mean(v2),min(v1),max(v1),stddev(v2),first(id),last(id),distinct(text),list(id)"

// TestGroupModel groups files larger than the memory, and compares the result with a map. Sums of floats
// must be exact to the last two bits, deviations to 1e-9.
func TestGroupModel(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		file, rows := rowsFile(t, shape)
		groups := map[string][][]string{}
		for _, r := range rows {
			groups[r[1]] = append(groups[r[1]], r)
		}
		got := outputRows(t, "group", "--by", "key", "--agg", modelAggregates, file)
		if len(got) != len(groups) || !slices.IsSortedFunc(got, func(a, b []string) int { return cmp.Compare(a[0], b[0]) }) {
			t.Fatalf("got %d groups, want %d in sorted order", len(got), len(groups))
		}
		for _, row := range got {
			want := naiveAggregates(groups[row[0]])
			for i := range want {
				if row[i] != want[i] && !(i == 3 || i == 4 || i == 7) || row[i] != want[i] && !approxEqual(row[i], want[i], map[int]float64{3: 3e-16, 4: 5e-16, 7: 1e-9}[i]) {
					t.Fatalf("group %s of a file with %d keys: field %d is %.80s, want %.80s", row[0], shape.Keys, i, row[i], want[i])
				}
			}
		}
	}
}

// approxEqual reports whether the relative difference of two numbers is at most tolerance.
func approxEqual(a, b string, tolerance float64) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && math.Abs(x-y) <= tolerance*math.Abs(y)
}

// TestRowsModel compares sort, distinct and top on files larger than the memory with slices and maps. It sorts each file
// by one random list of keys or, if PARTD_MODELS is set, by each list.
func TestRowsModel(t *testing.T) {
	t.Parallel()
	rnd := procs.Rand(t)
	for _, shape := range shapes {
		file, rows := rowsFile(t, shape)
		wantRows := func(want [][]string, args ...string) {
			t.Helper()
			got, i := outputRows(t, append(args, file)...), 0
			for i < min(len(got), len(want)) && slices.Equal(got[i], want[i]) {
				i++
			}
			if i < max(len(got), len(want)) {
				t.Errorf("partd %q with %d keys: %d rows, want %d; they differ at row %d", args, shape.Keys, len(got), len(want), i)
			}
		}
		sorted := func(compare func(a, b []string) int) [][]string {
			sorted := slices.Clone(rows)
			slices.SortStableFunc(sorted, compare)
			return sorted
		}
		lists := map[string]func(a, b []string) int{
			"key": func(a, b []string) int { return cmp.Compare(a[1], b[1]) },
			"v1:n:desc,key": func(a, b []string) int {
				return cmp.Or(cmp.Compare(number(b[2]), number(a[2])), cmp.Compare(a[1], b[1]))
			},
			"key:desc,v2:n": func(a, b []string) int {
				return cmp.Or(cmp.Compare(b[1], a[1]), cmp.Compare(number(a[3]), number(b[3])))
			},
		}
		selected := slices.Sorted(maps.Keys(lists))
		if os.Getenv("PARTD_MODELS") == "" {
			i := rnd.IntN(len(selected))
			selected = selected[i : i+1]
		}
		for _, by := range selected {
			wantRows(sorted(lists[by]), "sort", "--by", by)
		}
		var distinct, frequent [][]string
		counts := map[string]int{}
		for _, r := range rows {
			if counts[r[1]]++; counts[r[1]] == 1 {
				distinct = append(distinct, r)
			}
		}
		wantRows(distinct, "distinct", "--by", "key")
		wantRows(rows, "distinct", file) // the file twice
		byNumber := sorted(func(a, b []string) int { return cmp.Compare(number(b[2]), number(a[2])) })
		for _, n := range []int{5, len(rows) / 3} {
			wantRows(byNumber[:n], "top", "--by", "v1:n", "-n", fmt.Sprint(n))
		}
		for key, n := range counts {
			frequent = append(frequent, []string{key, fmt.Sprint(n)})
		}
		slices.SortFunc(frequent, func(a, b []string) int {
			return cmp.Or(cmp.Compare(number(b[1]), number(a[1])), cmp.Compare(a[0], b[0]))
		})
		wantRows(frequent[:20], "top", "--frequent", "key", "-n", "20")
	}
}

// TestSplitModel checks that each file that split writes has the rows of its key in input order.
func TestSplitModel(t *testing.T) {
	t.Parallel()
	file, rows := rowsFile(t, benchdata.CSVOptions{Rows: 150_000, Keys: 500, Dist: "zipf", Seed: 9, Quoted: true})
	want := map[string][][]string{}
	for _, r := range rows {
		want[r[1]] = append(want[r[1]], r)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if text, err := program(t, "split", "--by", "key", "--memory", "16MiB", "--dir", dir, file).CombinedOutput(); err != nil {
		t.Fatalf("partd split: %v\n%s", err, text)
	}
	if names := leftoverFiles(t, dir); len(names) != len(want) {
		t.Fatalf("split wrote %d files, want %d", len(names), len(want))
	}
	for key, rows := range want {
		if got := readCSV(t, filepath.Join(dir, key+".csv")); !slices.EqualFunc(got[1:], rows, slices.Equal) {
			t.Errorf("the file of key %s has %d rows, want the %d rows of the input", key, len(got)-1, len(rows))
		}
	}
}
