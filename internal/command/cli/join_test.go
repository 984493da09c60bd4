package cli

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func writeRows(t *testing.T, name string, rows [][]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f := must.Get(os.Create(file))(t)
	w := csv.NewWriter(f)
	must.Do(t, errors.Join(w.WriteAll(rows), f.Close()))
	return file
}

// joinInputs returns rows with missing keys, keys with many rows, and one key with half of the rows.
func joinInputs(n int, seed uint64) (left, right [][]string) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	newSide := func(name string, n, hot int) [][]string {
		rows := [][]string{{"k", name}}
		for i := range n {
			key := fmt.Sprint("key ", rnd.IntN(n/3))
			switch {
			case i < hot:
				key = `the "hot", one`
			case rnd.IntN(20) == 0:
				key = ""
			}
			rows = append(rows, []string{key, fmt.Sprint(name, i)})
		}
		rnd.Shuffle(n, func(i, j int) { rows[i+1], rows[j+1] = rows[j+1], rows[i+1] })
		return rows
	}
	return newSide("l", n, n/2), newSide("r", n, n/2)
}

// joinModel is a simple join in memory.
func joinModel(left, right [][]string, kind string, matchEmpty bool) (rows []string) {
	index, used := map[string][]int{}, make([]bool, len(right))
	for i, r := range right[1:] {
		if matchEmpty || r[0] != "" {
			index[r[0]] = append(index[r[0]], i+1)
		}
	}
	add := func(fields ...string) { rows = append(rows, strings.Join(fields, "|")) }
	for _, l := range left[1:] {
		partners := index[l[0]]
		switch {
		case kind == "semi" && len(partners) > 0, kind == "anti" && len(partners) == 0:
			add(l...)
		case kind == "semi" || kind == "anti":
		case len(partners) == 0 && (kind == "left" || kind == "full"):
			add(l[0], l[1], "")
		default:
			for _, i := range partners {
				used[i] = true
				add(l[0], l[1], right[i][1])
			}
		}
	}
	for i, r := range right[1:] {
		if !used[i+1] && (kind == "right" || kind == "full") {
			add(r[0], "", r[1])
		}
	}
	slices.Sort(rows)
	return rows
}

func sortedRows(rows [][]string) (all []string) {
	for _, r := range rows {
		all = append(all, strings.Join(r, "|"))
	}
	slices.Sort(all)
	return all
}

// addBallast adds unmatched rows with long keys or long values, more than fit in a hash table with 16 MiB of memory.
func addBallast(rows [][]string, byKeys bool) [][]string {
	rows, name, long := slices.Clone(rows), rows[0][1], strings.Repeat("x", 45_000)
	for i := range 300 {
		if byKeys {
			rows = append(rows, []string{fmt.Sprint(name, i, long), "value"})
		} else {
			rows = append(rows, []string{fmt.Sprint("only in ", name, i), long})
		}
	}
	return rows
}

// TestJoinModel compares joins with joinModel, for inputs that fit in memory or do not, from files,
// pipes and compressed files. It also checks which engine --json reports. Each kind of join has flags
// in half of the cases. For large inputs, it runs one random kind or, if PARTD_MODELS is set, all.
func TestJoinModel(t *testing.T) {
	t.Parallel()
	l, r := joinInputs(600, 1)
	smallLeft, smallRight := joinInputs(30, 0)
	heavyLeft, heavyRight, wideRight := addBallast(l, true), addBallast(r, true), addBallast(r, false)
	lFile, rFile := writeRows(t, "l.csv", l), writeRows(t, "r.csv", r)
	heavyLFile, heavyRFile, wideRFile := writeRows(t, "l.csv", heavyLeft), writeRows(t, "r.csv", heavyRight), writeRows(t, "r.csv", wideRight)
	packedL, packedR := gzipFile(t, heavyLFile), gzipFile(t, heavyRFile)
	rnd := procs.Rand(t)
	for name, c := range map[string]struct {
		left, right [][]string
		files       [2]string
		engine      string
	}{
		"both small":              {smallLeft, smallRight, [2]string{writeRows(t, "l.csv", smallLeft), writeRows(t, "r.csv", smallRight)}, "hash"},
		"no row on the left":      {l[:1], r, [2]string{writeRows(t, "l.csv", l[:1]), rFile}, "hash"},
		"no row on the right":     {l, r[:1], [2]string{lFile, writeRows(t, "r.csv", r[:1])}, "hash"},
		"large left":              {heavyLeft, r, [2]string{heavyLFile, rFile}, "hash"},
		"large right":             {l, heavyRight, [2]string{lFile, heavyRFile}, "hash"},
		"large left pipe":         {heavyLeft, r, [2]string{"piped " + heavyLFile, rFile}, "hash"},
		"small left pipe":         {l, wideRight, [2]string{"piped " + lFile, wideRFile}, "hash"},
		"large right pipe":        {l, heavyRight, [2]string{lFile, "piped " + heavyRFile}, "hash"},
		"both large":              {heavyLeft, heavyRight, [2]string{heavyLFile, heavyRFile}, "sort"},
		"both large, left piped":  {heavyLeft, heavyRight, [2]string{"piped " + heavyLFile, heavyRFile}, "sort"},
		"both large, right piped": {heavyLeft, heavyRight, [2]string{heavyLFile, "piped " + heavyRFile}, "sort"},
		"both large, compressed":  {heavyLeft, heavyRight, [2]string{packedL, packedR}, "sort"},
		"compressed, left small":  {l, heavyRight, [2]string{gzipFile(t, lFile), packedR}, "hash"},
	} {
		indexes := rnd.Perm(len(joinKinds))
		if len(c.left)+len(c.right) > 1300 && os.Getenv("PARTD_MODELS") == "" {
			indexes = indexes[:1]
		}
		for _, i := range indexes {
			kind := joinKinds[i]
			flags := [][]string{nil, {"--match-empty", "--threads", "1"}}[(i+len(name))%2]
			out := filepath.Join(t.TempDir(), "out.csv")
			args := append([]string{"join", "--on", "k", "--how", kind, "--memory", "16MiB", "--json", "-o", out}, flags...)
			var stdin *os.File
			for _, file := range c.files {
				if piped, isPiped := strings.CutPrefix(file, "piped "); isPiped {
					f := must.Get(os.Open(piped))(t)
					defer f.Close()
					args, stdin, file = append(args, "--format", "csv"), f, "-"
				}
				args = append(args, file)
			}
			cmd := program(t, args...)
			cmd.Stdin = stdin
			var stderr strings.Builder
			cmd.Stderr = &stderr
			summary, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: partd %s: %v\n%s", name, args, err, &stderr)
			}
			var stats struct{ Engine string }
			if err := json.Unmarshal(summary, &stats); err != nil || stats.Engine != c.engine {
				t.Errorf("%s, %s: the engine was %q, want %q: %v", name, kind, stats.Engine, c.engine, err)
			}
			got := sortedRows(readCSV(t, out)[1:])
			must.Do(t, os.Remove(out)) // temporary directories may be small
			if want := joinModel(c.left, c.right, kind, flags != nil); !slices.Equal(got, want) {
				t.Errorf("%s, %s join, flags %v: got %d rows that differ from the model's %d", name, kind, flags, len(got), len(want))
			}
		}
	}
}

func gzipFile(t *testing.T, file string) string {
	t.Helper()
	data := must.Get(os.ReadFile(file))(t)
	f := must.Get(os.Create(file + ".gz"))(t)
	w := gzip.NewWriter(f)
	if _, err := w.Write(data); errors.Join(err, w.Close(), f.Close()) != nil {
		t.Fatal(err)
	}
	return file + ".gz"
}

// TestJoinWithinMemory checks the memory and the engine of joins whose left file is larger than --memory. The first
// right file fits in a hash table. The second does not quite fit, which partd notices only while reading it. The third
// is as large as the left file. One key has half of the left file's rows, and each join yields 4 million pairs.
func TestJoinWithinMemory(t *testing.T) {
	scale := 1
	if procs.RaceEnabled {
		scale = 10
	}
	newSide := func(name string, rows int) string {
		file := filepath.Join(t.TempDir(), name)
		var text strings.Builder
		text.WriteString("k,v\n")
		for i := range rows / scale {
			key := i
			if i%2 == 0 && i < 80 || name == "l.csv" && i%2 == 0 {
				key = -1
			}
			fmt.Fprintf(&text, "%d,%090d\n", key, i)
		}
		must.Do(t, os.WriteFile(file, []byte(text.String()), 0o600))
		return file
	}
	left := newSide("l.csv", 200_000)
	for rows, engine := range map[int]string{80_000: "engine    hash", 105_000: "engine    sort", 200_000: "engine    sort"} {
		cmd := program(t, "join", "--on", "k", "--memory", "16MiB", "--how", "full", "-o", "/dev/null", "--stats", left, newSide("r.csv", rows))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		peak, err := startMeasured(t, cmd)()
		if err != nil {
			t.Fatalf("partd join: %v\n%s", err, &out)
		}
		if memory := int64(16 << 20); peak > memory+memory/10+30<<20 && !procs.RaceEnabled {
			t.Errorf("%d rows: join used %d MiB of memory, want at most 47\n%s", rows, peak>>20, &out)
		}
		if !strings.Contains(out.String(), engine) && !procs.RaceEnabled {
			t.Errorf("join with %d rows on the right does not print %s:\n%s", rows, engine, &out)
		}
		t.Logf("%d rows: join used %d MiB of memory", rows, peak>>20)
	}
}
