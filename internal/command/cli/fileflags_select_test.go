package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
			if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "out.csv")
			summary, err := program(t, append([]string{"group", "--agg", "count,sum(v)", "--skip-bad", "--stats", "--force", "-o", out, file}, args...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("partd group %q: %v\n%s", args, err, summary)
			}
			rows, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(summary)) {
				if word, _, _ := strings.Cut(line, " "); word == "skipped" || word == "filtered" || word == "groups" {
					rows = append(rows, line...)
				}
			}
			_, first, _ := strings.Cut(string(summary), "the first: "+file)
			first, _, _ = strings.Cut(first, "\n")
			results = append(results, string(rows)+first)
		}
		if results[0] != results[1] {
			t.Errorf("partd group %q: the results differ:\n%.2000s\nand\n%.2000s", args, results[0], results[1])
		}
	}
}
