package cli

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHeaderThatIsData checks that a file without a header is not read silently as if it had one, and that a number
// never selects a column by a name that looks like the number of another column.
func TestHeaderThatIsData(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
		return path
	}
	numbers, words := file("n.csv", "7,2,1\n3,5,9\n1,8,4\n"), file("w.tsv", "x\tal\ny\tbo\nx\tc\n")
	named, years := file("named.csv", "a,b\n1,2\n"), file("y.csv", "name,2026-01-31\nx,5\n")
	repeated, bad := file("r.csv", "a,b\n1,2\na,b\n"), file("bad.csv", "a,b\nx y z\nq w e\n")
	pivot, priced := file("p.csv", "country,2019,2020\nFR,1,2\n"), file("q.csv", "id,5.1,n\nx,2,2026-01-31\ny,3,\n")
	dictionary := file("d.csv", "name,size\nid,8\nname,20\n")
	store := "log:" + filepath.Join(dir, "store")
	for _, c := range []struct {
		args []string
		want string // in the standard error; empty if it must be empty
		fail bool
	}{
		{[]string{"group", "--by", "1", numbers}, `"1" is the name of column 3, but also the number of column 1 ("7"): use -1 for column 3, or -3 for column 1; if the first record is not a header, add --no-header`, true},
		{[]string{"group", "--by", "3", "--agg", "sum(1)", numbers}, "use -1 for column 3", true},
		{[]string{"sort", "--by", "1:n", numbers}, "use -1 for column 3", true},
		{[]string{"top", "--by", "1", numbers}, "use -1 for column 3", true},
		{[]string{"top", "--frequent", "1", numbers}, "use -1 for column 3", true},
		{[]string{"top", "--by", "7", "--per", "1", numbers}, "use -1 for column 3", true},
		{[]string{"distinct", "--by", "1", numbers}, "use -1 for column 3", true},
		{[]string{"split", "--by", "1", "--dir", filepath.Join(dir, "split"), numbers}, "use -1 for column 3", true},
		{[]string{"shuffle", "--by", "1", "--store", store, numbers}, "use -1 for column 3", true},
		{[]string{"join", "--on", "1", numbers, named}, "use -1 for column 3", true},
		{[]string{"join", "--on", "a=1", named, numbers}, "use -1 for column 3", true},
		{[]string{"group", "--by", "-3", numbers}, `its field 1, "7", looks like data`, false},
		{[]string{"group", "--by", "1", "--no-header", numbers}, "", false},
		{[]string{"sort", "--by", "2", words}, `its field 1, "x", looks like data: if it is data, add --no-header`, false},
		{[]string{"sort", "--by", "name", years}, `its field 2, "2026-01-31", looks like data`, false},
		{[]string{"sort", "--by", "a", repeated}, `its field 1, "a", looks like data`, false},
		{[]string{"join", "--on", "a=name", named, years}, `its field 2, "2026-01-31", looks like data`, false},
		{[]string{"shuffle", "--by", "name", "--json", "--store", store + "-json", years}, `partd: note: ` + years + `: the first record was read as the header, but its field 2`, false},
		{[]string{"sort", "--by", "a", named}, "", false},
		{[]string{"sort", "--by", "country", pivot}, "", false},
		{[]string{"sort", "--by", "id", priced}, "", false},
		{[]string{"sort", "--by", "name", dictionary}, "", false},
		{[]string{"group", "--by", "2", "--skip-bad", bad}, "no record is valid, and 2 bad records", true},
		{[]string{"sort", "--by", "1", "--skip-bad", "--no-header", bad}, "only the first record is valid, and 2 bad records", true},
		{[]string{"shuffle", "--by", "a", "--skip-bad", "--store", store, bad}, "no record is valid, and 2 bad records", true},
		{[]string{"join", "--on", "a", "--skip-bad", named, bad}, "no record is valid, and 2 bad records", true},
	} {
		var stderr strings.Builder
		cmd := program(t, c.args...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); (err != nil) != c.fail || !strings.Contains(stderr.String(), c.want) || c.want == "" && stderr.Len() > 0 {
			t.Errorf("partd %q: %v, %s, want failure: %t, %q", c.args, err, &stderr, c.fail, c.want)
		}
	}
}

// TestFewSegmentsWithLittleMemory checks that even with little memory, a log store receives batches that fit in its
// memtables. If each batch became a segment, merging them would take twenty times the work.
func TestFewSegmentsWithLittleMemory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "numbers.csv")
	var data bytes.Buffer
	data.WriteString("id,k\n")
	for i := range 300_000 {
		fmt.Fprintf(&data, "%d,%d\n", i, i*7919%100_003)
	}
	must.Do(t, os.WriteFile(file, data.Bytes(), 0o666))
	check := func(store string) {
		t.Helper()
		names := must.Get(filepath.Glob(filepath.Join(store, "seg-*")))(t)
		segments := 0
		for _, name := range names {
			b := must.Get(os.ReadFile(name))(t)
			segments += bytes.Count(b, []byte("partdSEG"))
		}
		if segments == 0 || segments > 8 {
			t.Errorf("%s has %d segments for 12 MB of entries, want at most 8", filepath.Base(store), segments)
		}
	}
	source, target := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if out, err := program(t, "shuffle", "--by", "k", "--memory", "16MiB", "--store", "log:"+source, file).CombinedOutput(); err != nil {
		t.Fatalf("partd shuffle: %v\n%s", err, out)
	}
	check(source)
	if out, err := program(t, "copy", "--memory", "16MiB", "--from", "log:"+source, "--to", "log:"+target).CombinedOutput(); err != nil {
		t.Fatalf("partd copy: %v\n%s", err, out)
	}
	check(target)
}

// TestSelectionByColumns checks that a condition and parts of columns give the same groups and the same bad records for
// files that are split by columns and for files whose quotes prevent this.
func TestSelectionByColumns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	var plain, quoted strings.Builder
	plain.WriteString("k,v,d\n")
	quoted.WriteString("k,v,d\n")
	for range 30_000 {
		k, v, d := fmt.Sprintf("%d/%d", r.IntN(9), r.IntN(9)), fmt.Sprint(r.IntN(100)), fmt.Sprintf("2026-%02d-%02d", 1+r.IntN(12), 1+r.IntN(28))
		switch r.IntN(200) {
		case 0:
			v = "none"
		case 1:
			v = ""
		case 2:
			d = "2026-02-30"
		}
		fmt.Fprintf(&plain, "%s,%s,%s\n", k, v, d)
		fmt.Fprintf(&quoted, "%q,%s,%s\n", k, v, d)
	}
	dir := t.TempDir()
	for _, args := range [][]string{
		{"--by", "before(k,'/')", "--where", "v > 20 or v is null"},
		{"--by", "after(k,'/'),month(d)", "--where", "k != '3/3' and not v in (7, 8)"},
		{"--by", "day(d)"},
		{"--by", "k", "--where", "v < 0 and k = 'nothing'"},
		{"--by", "k", "--where", "v between 3 and 90.5"},
	} {
		var results []string
		for name, text := range map[string]string{"plain.csv": plain.String(), "quoted.csv": quoted.String()} {
			file := filepath.Join(dir, name)
			must.Do(t, os.WriteFile(file, []byte(text), 0o666))
			out := filepath.Join(dir, "out.csv")
			summary, err := program(t, append([]string{"group", "--agg", "count,sum(v)", "--skip-bad", "--stats", "--force", "-o", out, file}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("partd group %q: %v\n%s", args, err, summary)
			}
			rows := must.Get(os.ReadFile(out))(t)
			for line := range strings.Lines(string(summary)) {
				if word, _, _ := strings.Cut(line, " "); word == "skipped" || word == "filtered" || word == "groups" {
					rows = append(rows, line...)
				}
			}
			_, first, _ := strings.Cut(string(summary), "first bad record: "+file)
			first, _, _ = strings.Cut(first, "\n")
			results = append(results, string(rows)+first)
		}
		if results[0] != results[1] {
			t.Errorf("partd group %q: the results differ:\n%.2000s\nand\n%.2000s", args, results[0], results[1])
		}
	}
}
