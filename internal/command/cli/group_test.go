package cli

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestLongestKeys checks that the error for a key that is too long names the correct limit. A key of exactly that
// length must pass through all steps: hash tables, sort and output rows.
func TestLongestKeys(t *testing.T) {
	for _, job := range []string{"group --agg count --by", "group --agg median(x) --by", "group --agg count,distinct(x) --by", "group --agg mode(x),distinct(x) --by", "top --frequent"} {
		run := func(key string) (string, error) {
			cmd := program(t, append(strings.Fields(job), "k", "--threads", "1", "--memory", "16MiB", "--format", "csv", "-")...)
			cmd.Stdin = strings.NewReader("k,x\n" + key + ",1\nb,2\n")
			text, err := cmd.CombinedOutput()
			return string(text), err
		}
		text, err := run(strings.Repeat("a", 1<<20))
		_, after, hasLimit := strings.Cut(text, "but the limit is ")
		longest, _ := strconv.Atoi(strings.FieldsFunc(after+";", func(r rune) bool { return r == ';' })[0])
		if err == nil || !hasLimit || longest < 16<<20/1000 {
			t.Errorf("%s with a key of 1 MiB: %v, %s; want an error with a limit", job, err, text)
			continue
		}
		for _, c := range []string{"a", "\x00"} {
			if text, err := run(strings.Repeat(c, longest)); err != nil {
				t.Errorf("%s with a key of the longest length, %d times %q: %v, %s; want success", job, longest, c, err, text)
			}
		}
	}
}

// TestLongKeyOfManyAggregates checks that the error for a key names the record even if the states of groups are so
// large that a record with a key over the limit can be split by columns, or that the limit is shorter than a short record.
func TestLongKeyOfManyAggregates(t *testing.T) {
	var pairs, single []string // aggregates
	for i := range 930 {
		single = append(single, fmt.Sprintf("stddev(c%d),mean(c%[1]d),min(c%[1]d),max(c%[1]d)", i))
		for k := 0; i < 59 && k < i; k++ {
			pairs = append(pairs, fmt.Sprintf("corr(c%d,c%d)", i, k))
		}
	}
	for _, c := range []struct {
		aggregates []string
		columns    int
		before     string // the key of the records before
		records    int
	}{{pairs, 59, "k", 100}, {pairs, 59, "\"k\"", 100}, {single, 930, "k", 2}} {
		header, values := "k", strings.Repeat(",", c.columns)+"\n"
		for i := range c.columns {
			header += fmt.Sprint(",c", i)
		}
		cmd := program(t, "group", "--by", "k", "--agg", strings.Join(c.aggregates, ",")+",count", "--threads", "1", "--memory", "16MiB", "--format", "csv", "-")
		cmd.Stdin = strings.NewReader(header + "\n" + strings.Repeat(c.before+values, c.records) + strings.Repeat("k", 3000) + values)
		text, err := cmd.CombinedOutput()
		want := fmt.Sprintf("line %d: the group is too large", c.records+2)
		if err == nil || !strings.Contains(string(text), want) || !strings.Contains(string(text), "the key fields have 3000 bytes") {
			t.Errorf("group with a long key after %d records with the key %s: %v, %s; want an error that names the line", c.records, c.before, err, text)
		}
	}
}

// TestGroupByColumns checks that groups are the same if records are split by columns, one by one because of distinct,
// or partly one by one because of quotes, also with a condition and with parts of columns. The summaries and the errors
// for bad records must be the same too. PARTD_MODELS is the number of random inputs; eight have every kind.
func TestGroupByColumns(t *testing.T) {
	t.Parallel()
	const aggregates = "count,count(s),sum(x),mean(x),min(x),max(x),stddev(x),corr(x,y),sum(y),median(y),bool_or(b)"
	first, n := uint64(procs.Rand(t).Uint32()), procs.Number(t, "PARTD_MODELS", 8)
	for seed := first; seed < first+uint64(n); seed++ {
		r := rand.New(rand.NewPCG(seed, 40))
		sep, format := ",", "csv"
		if seed%2 == 1 {
			sep, format = "\t", "tsv"
		}
		number := func() string {
			if r.IntN(2) == 0 {
				return fmt.Sprintf("%.*f", r.IntN(4), r.ExpFloat64()*1000)
			}
			return pick(r, "", "0", "-0", "+7", " 8 ", "007", ".5", "5.", "-3.25", "1e3", "12345678", "123456789.5", "99999999999999999999", fmt.Sprint(r.Uint64()))
		}
		badAt := -1 // without --skip-bad, the number of the only bad record
		args := []string{"group", "--by", pick(r, "k2,k1", "before(k2,'e'),k1", "k1,after(k2,' ')"), "--threads", "1", "--memory", "16MiB", "--format", format, "--stats"}
		if where := pick(r, "", "x > 20 or x is null", "s != 'text' and not y in (0, 7)", "y between 3 and 90.5", "x < 0 and s = 'nothing'"); where != "" {
			args = append(args, "--where", where)
		}
		if seed%4 < 2 {
			args = append(args, "--skip-bad")
		} else if seed%8 < 6 {
			badAt = r.IntN(3000)
		}
		text := strings.Join([]string{"k1", "x", "y", "b", "s", "quote", "k2"}, sep) + "\n"
		plain, quoted := text, text
		for i := range 3000 {
			row := []string{strings.Repeat(pick(r, "a", "b", "\x00"), r.IntN(9)), number(), number(), pick(r, "", "t", "0", "FALSE"), pick(r, "", "text"), "qqq", pick(r, "", "k", "key", "longer key")}
			if badAt == i || seed%4 < 2 && r.IntN(50) == 0 {
				row = pick(r, row[:3], append(row, ""), append([]string{"k", pick(r, "?", ".", "1.2.3", "NaN", "0x1")}, row[2:]...))
			}
			end := pick(r, "\n", "\n", "\r\n", "\n\n")
			if i == 2999 {
				row[len(row)-1] = "sixkey" // if encoded as a word, the word would extend beyond the block
				end = pick(r, "", "\n", "\r\n")
			}
			text := strings.Join(row, sep) + end
			plain += text
			if format == "csv" && r.IntN(1+r.IntN(40)) == 0 {
				text = strings.Replace(text, "qqq", `"q"`, 1)
			}
			quoted += text
		}
		run := func(text, aggregates string) (rows []string, messages string) {
			cmd := program(t, append(args, "--agg", aggregates, "-")...)
			var out, errs strings.Builder
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &out, &errs
			_ = exitCode(t, cmd.Run())
			for line := range strings.Lines(errs.String()) { // the others tell the time, and how partd has read the records
				if word, _, _ := strings.Cut(line, " "); slices.Contains([]string{"partd:", "records", "groups", "filtered", "skipped", ""}, word) {
					messages += line
				}
			}
			return strings.Split(out.String(), "\n"), messages
		}
		want, wantMessages := run(plain, aggregates+",distinct(s)")
		for i, row := range want { // remove the number of distinct values
			want[i] = row[:max(0, strings.LastIndex(row, sep))]
		}
		for _, text := range []string{plain, quoted} {
			if got, messages := run(text, aggregates); !slices.Equal(got, want) || messages != wantMessages {
				t.Errorf("seed %d: groups by columns are %d rows, %s\nwant %d rows, %s\n%.300q\n%.300q", seed, len(got), messages, len(want), wantMessages, got, want)
			}
		}
	}
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// sameResult reports whether two texts are equal, or two numbers are nearly equal: up to a relative
// difference of 1e-9 or an absolute difference of 1e-12.
func sameResult(got, want string) bool {
	if want == "nan" {
		want = ""
	}
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(want, 64)
	if errA != nil || errB != nil {
		return got == want
	}
	return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1e-3)
}

// TestQuantilesBeyondMemory compares quantiles of more values than fit in memory with the quantiles of a
// slice, for one large group and many small ones. It also checks the memory in use.
func TestQuantilesBeyondMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 39))
	const n = 600_000
	values := map[string][]float64{}
	rows := make([][]string, 1, n+1)
	rows[0] = []string{"k", "x"}
	for range n {
		x := r.ExpFloat64()
		k := "one"
		if r.IntN(3) == 0 {
			k = fmt.Sprint("k", r.IntN(50_000))
		}
		values[k] = append(values[k], x)
		rows = append(rows, []string{k, strconv.FormatFloat(x, 'g', -1, 64)})
	}
	file := writeRows(t, "many.csv", rows)
	out := filepath.Join(t.TempDir(), "out.csv")
	cmd := program(t, "group", "--by", "k", "--agg", "median(x),quantile(x,0.99),count", "--memory", "16MiB", "-o", out, file)
	peak, err := startMeasured(t, cmd)()
	if err != nil || peak > (16+30)<<20 && !procs.RaceEnabled {
		t.Errorf("group used %d MiB of memory, error %v; want at most 46 MiB", peak>>20, err)
	}
	got := readCSV(t, out)[1:]
	if len(got) != len(values) {
		t.Fatalf("got %d groups, want %d", len(got), len(values))
	}
	for _, row := range got {
		all := values[row[0]]
		slices.Sort(all)
		quantile := func(p float64) string {
			i, part := math.Modf(p * float64(len(all)-1))
			low := all[int(i)]
			return fmt.Sprint(low + (all[min(int(i)+1, len(all)-1)]-low)*part)
		}
		if !sameResult(row[1], quantile(0.5)) || !sameResult(row[2], quantile(0.99)) || row[3] != fmt.Sprint(len(all)) {
			t.Fatalf("group %s: got %q, want the quantiles %s and %s and the count %d", row[0], row, quantile(0.5), quantile(0.99), len(all))
		}
	}
}

// TestGroupWideRowsMemory checks that long output rows need little more memory than short ones. Here, each JSON row
// repeats a column name of 5,000 bytes, which is far larger than the data of its group.
func TestGroupWideRowsMemory(t *testing.T) {
	name := strings.Repeat("v", 5000)
	rows := [][]string{{"k", name}}
	for i := range 20_000 {
		rows = append(rows, []string{fmt.Sprint(i), "1"})
	}
	out := filepath.Join(t.TempDir(), "out.jsonl")
	cmd := program(t, "group", "--by", "k", "--agg", "sum("+name+")", "--threads", "4", "--memory", "16MiB", "-o", out, writeRows(t, "names.csv", rows))
	peak, err := startMeasured(t, cmd)()
	if err != nil || peak > (18+30)<<20 && !procs.RaceEnabled {
		t.Errorf("group used %d MiB of memory, error %v; want at most 48 MiB", peak>>20, err)
	}
	text, err := os.ReadFile(out)
	if n := strings.Count(string(text), "\n"); n != len(rows)-1 || err != nil {
		t.Errorf("got %d rows, %v, want %d rows", n, err, len(rows)-1)
	}
}

// TestHugeGroupFiles checks that the numbers of a huge group are sorted in few enough files to open all of them
// together. The sort must reuse the memory of finished hash tables, because with less memory it would write more files.
func TestHugeGroupFiles(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 39))
	var text strings.Builder
	text.WriteString("k,x\n")
	for range 1_500_000 {
		fmt.Fprintf(&text, "a,%d\n", r.IntN(1<<40))
	}
	file := filepath.Join(t.TempDir(), "huge.csv")
	must.Do(t, os.WriteFile(file, []byte(text.String()), 0o666))
	cmd := program(t, "group", "--by", "k", "--agg", "median(x)", "--memory", "16MiB", "--threads", "2", "-o", filepath.Join(t.TempDir(), "out.csv"), file)
	cmd.Args = append([]string{"sh", "-c", `ulimit -n 300 && exec "$0" "$@"`}, cmd.Args...)
	cmd.Path = "/bin/sh"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("group with at most 300 open files: %v: %s", err, out)
	}
}
