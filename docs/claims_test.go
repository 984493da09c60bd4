package docs_test

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
)

// claimSections are the parts of pages whose rows need an entry in docs/claims.txt: a page, and the line before the rows.
var claimSections = [][2]string{
	{"README.md", "| feature | example |"},
	{"README.md", "## Compared with others"},
	{"tables/README.md", "## Compared with others"},
	{"python/README.md", "## Compared with others"},
	{"docs/finish.md", "Where others are better:"},
	{"docs/answers.md", "| you want |"},
	{"docs/answers.md", "## How large"},
}

// claim is an entry of docs/claims.txt.
type claim struct {
	page, label string   // label is the beginning of the row
	sources     []string // lines such as "figure sort | sort | 100000 | partd sort"
	used        bool
}

// readClaims returns the entries of docs/claims.txt.
func readClaims(t *testing.T) (all []*claim) {
	t.Helper()
	for line := range strings.Lines(readFile(t, "docs/claims.txt")) {
		source, isSource := strings.CutPrefix(line, "\t")
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case isSource:
			all[len(all)-1].sources = append(all[len(all)-1].sources, strings.TrimSpace(source))
		default:
			page, label, ok := strings.Cut(line, ": ")
			if !ok {
				t.Fatalf("docs/claims.txt: %q is not PAGE: ROW", line)
			}
			all = append(all, &claim{page: page, label: label})
		}
	}
	return all
}

// claimRows returns the rows of a table or list after a line of a page, without their marks. The rows end at a line that is
// empty or a heading and follows a row.
func claimRows(t *testing.T, page, after string) (rows []string) {
	t.Helper()
	_, text, ok := strings.Cut(readFile(t, page), "\n"+after)
	if !ok {
		t.Fatalf("%s has no line that begins with %q", page, after)
	}
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		_, isRow := strings.CutPrefix(line, "| ")
		item, isItem := strings.CutPrefix(line, "- ")
		switch {
		case strings.HasPrefix(line, "| |") || strings.HasPrefix(line, "|---"):
		case isRow:
			rows = append(rows, strings.Trim(line, "| "))
		case isItem:
			rows = append(rows, item)
		case strings.HasPrefix(line, "  ") && len(rows) > 0:
			rows[len(rows)-1] += " " + strings.TrimSpace(line)
		case len(rows) > 0:
			return rows
		}
	}
	return rows
}

// TestClaims checks that each row of claimSections has an entry in docs/claims.txt, that the entry's relations hold, and that
// its sources contain each figure of the row.
func TestClaims(t *testing.T) {
	claims := readClaims(t)
	plain := strings.NewReplacer("**", "", "`", "")
	for _, section := range claimSections {
		rows := claimRows(t, section[0], section[1])
		if len(rows) < 3 {
			t.Errorf("%s has %d rows after %q, want at least 3", section[0], len(rows), section[1])
		}
		for _, row := range rows {
			i := slices.IndexFunc(claims, func(c *claim) bool {
				return c.page == section[0] && !c.used && strings.HasPrefix(plain.Replace(row), c.label)
			})
			if i < 0 {
				t.Errorf("%s: no entry in docs/claims.txt for the row\n%s", section[0], row)
				continue
			}
			claims[i].used = true
			for _, problem := range claims[i].check(t, row) {
				t.Errorf("%s: %s: %s", section[0], claims[i].label, problem)
			}
		}
	}
	for _, c := range claims {
		if !c.used {
			t.Errorf("docs/claims.txt: no row of %s begins with %q", c.page, c.label)
		}
	}
}

// TestFalseClaims checks sentences that pages once had. Each contradicts its sources.
func TestFalseClaims(t *testing.T) {
	for _, c := range []struct{ row, sources string }{
		{
			"GNU sort exceeds its limit, so that staying within it is unique",
			"peak 282 10000 finish | sort | 256 | GNU sort",
		},
		{"with 100,000 keys, DuckDB cannot bring values together", "fails files | values | 100000 | DuckDB ORDER BY, its own way\nwords 100,000"},
		{
			"polars sums 10 million rows in 2,184 MiB within 256 MiB",
			"peak 0 311 questions | q10 sum v3, count by id1 to id6 | 1e+07 | polars\nwords 10 million\nwords 2,184 MiB\nwords 256 MiB",
		},
		{
			"works, at less than a tenth of the speed",
			"ratio 0 0.1 server | append values of 1 MiB, Go client | 0 | Python's server | partd-server",
		},
		{
			"works, at less than a tenth of the speed",
			"ratio 0 0.1 server | get values of 1 MiB, Go client | 0 | Python's server | partd-server",
		},
		{
			"an append takes a thousand times as long",
			"ratio 900 1100 tables | append 10 rows of 105 columns, synced | 0 | Iceberg, by pyiceberg | tables",
		},
		{
			"equally fast otherwise",
			"ratio 0.9 1.1 tables | read a column of 1000000 rows by a filter | 0 | ducklake | tables",
		},
		{"ArcticDB: slower", ""},
		{"DuckDB joins twice as fast as partd-tables", "ratio 1.8 2.2 finish | join | 1024 | partd-tables | DuckDB"},
		{"distinct takes DuckDB less than half the time", "ratio 2 100 finish | distinct | 256 | partd-tables | DuckDB"},
		{"DuckDB is faster at sorting", "ratio 1 100 finish | sort | 1024 | partd | DuckDB"},
		{"its disk method doubled 281,250 rows", "page docs/finish.md | | dask, disk |"},
		{"an append of a row takes 15 µs", "figure tables | append 1 row, acknowledged | 0 | tables, synced"},
	} {
		claim := &claim{sources: strings.FieldsFunc(c.sources, func(r rune) bool { return r == '\n' })}
		if problems := claim.check(t, c.row); len(problems) == 0 {
			t.Errorf("%q passes with the sources\n%s", c.row, c.sources)
		}
	}
}

// check returns what is wrong with a row, by the sources of its claim.
func (c *claim) check(t *testing.T, row string) (problems []string) {
	t.Helper()
	var known []string
	for _, source := range c.sources {
		kind, rest, _ := strings.Cut(source, " ")
		figures, err := checkSource(t, kind, rest, row)
		if err != nil {
			problems = append(problems, err.Error())
		}
		known = append(known, figures...)
	}
	if len(c.sources) == 0 {
		problems = append(problems, "no source")
	}
	for _, f := range figures(linkOrCode.ReplaceAllString(row, ""), "") {
		if !slices.Contains(known, f) {
			problems = append(problems, fmt.Sprintf("no source has the figure %s; they have %q", f, known))
		}
	}
	return problems
}

var (
	linkOrCode = regexp.MustCompile("`[^`]*`|\\]\\([^)]*\\)")
	figure     = regexp.MustCompile(`([0-9][0-9.,]*[0-9]|[0-9])(?:\s(µs|ms|s|MB/s|MB|GB|MiB|GiB|%)(?:\b|\s|$))?`)
)

// figures returns the figures of a text, each with its unit, or with the given unit if it has none.
func figures(text, unit string) (all []string) {
	for _, m := range figure.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.TrimSpace(m[1]+" "+cmp.Or(m[2], unit)))
	}
	return all
}

// checkSource checks one source of a row, and returns the figures that it supports:
//
//	figure FILE | JOB | X | WHO             a result of bench/figures
//	ratio LOW HIGH FILE | JOB | X | A | B   A's value divided by B's is in this range
//	peak LOW HIGH FILE | JOB | X | WHO      its peak memory in MiB is in this range
//	fails FILE | JOB | X | WHO              it has no result
//	test DIR NAME                           a test in a directory
//	run DATE PAGE | TEXT                    a page has the date and the text, which a person measured
//	page PAGE | TEXT                        a page has the text
//	link URL                                the row links to another project's words
//	words TEXT                              figures that need no source, such as a version or a setting
func checkSource(t *testing.T, kind, rest, row string) (supported []string, err error) {
	t.Helper()
	switch kind {
	case "figure", "fails":
		f := findFigure(t, rest)
		if failed := f.Runs == 0 || f.Problem != ""; failed != (kind == "fails") {
			return nil, fmt.Errorf("%s %s: the result has %d runs and the problem %q", kind, rest, f.Runs, f.Problem)
		}
		supported = append(figures(formatValue(f), ""), figures(fmt.Sprintf("%.0f %s", f.Value, f.Unit), "")...)
		return append(supported, fmt.Sprintf("%.0f", f.Value), fmt.Sprintf("%.1f", f.Value), humanize.Comma(int64(math.Round(f.Value))), humanize.Comma(f.Peak>>20)+" MiB", humanize.Comma(f.Peak>>20)), nil
	case "ratio", "peak":
		parts := strings.SplitN(rest, " ", 3)
		low, high := must.Get(strconv.ParseFloat(parts[0], 64))(t), must.Get(strconv.ParseFloat(parts[1], 64))(t)
		value := float64(findFigure(t, parts[2]).Peak >> 20)
		if kind == "ratio" {
			all, divisor, _ := cutLast(parts[2], " | ")
			job, _, _ := cutLast(all, " | ")
			value = findFigure(t, all).Value / findFigure(t, job+" | "+divisor).Value
		}
		if value < low || value > high {
			return nil, fmt.Errorf("%s %s is %.4g, want %g to %g", kind, parts[2], value, low, high)
		}
		if kind == "peak" {
			return []string{humanize.Comma(int64(value)) + " MiB"}, nil
		}
		return []string{fmt.Sprintf("%.0f", value), fmt.Sprintf("%.1f", value)}, nil
	case "test":
		dir, name, _ := strings.Cut(rest, " ")
		for _, pattern := range []string{"*_test.go", "test_*.py"} {
			for _, file := range must.Get(filepath.Glob(filepath.Join(dir, pattern)))(t) {
				text := readFile(t, file)
				if strings.Contains(text, "\nfunc "+name+"(t ") || strings.Contains(text, "\ndef "+name+"(") {
					return nil, nil
				}
			}
		}
		return nil, fmt.Errorf("%s has no test %s", dir, name)
	case "run", "page":
		page, text, _ := strings.Cut(rest, " | ")
		date, dated, isRun := strings.Cut(page, " ")
		if isRun {
			page = dated
		}
		flat := strings.Join(strings.Fields(readFile(t, page)), " ")
		if isRun != (kind == "run") || isRun && !strings.Contains(flat, date) || !strings.Contains(flat, text) {
			return nil, fmt.Errorf("%s %s: the page has no such date or text", kind, rest)
		}
		return figures(linkOrCode.ReplaceAllString(text, ""), ""), nil
	case "link":
		if !strings.Contains(row, "("+rest+")") {
			return nil, fmt.Errorf("the row has no link to %s", rest)
		}
		return nil, nil
	case "words":
		if !strings.Contains(row, rest) {
			return nil, fmt.Errorf("the row does not say %q", rest)
		}
		return figures(linkOrCode.ReplaceAllString(rest, ""), ""), nil
	}
	return nil, fmt.Errorf("unknown source %q", kind)
}

// cutLast cuts text around the last sep.
func cutLast(text, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

// findFigure returns the newest result that "FILE | JOB | X | WHO" names.
func findFigure(t *testing.T, name string) (found benchdata.Figure) {
	t.Helper()
	parts := strings.Split(name, " | ")
	if len(parts) < 4 {
		t.Fatalf("docs/claims.txt: %q is not FILE | JOB | X | WHO", name)
	}
	_, all := readFigures(t, parts[0])
	for _, f := range all {
		if f.Job == parts[1] && fmt.Sprint(f.X) == parts[2] && f.Contender == parts[3] {
			found = f
		}
	}
	if found.Contender == "" {
		t.Fatalf("docs/claims.txt: bench/figures has no result %s", name)
	}
	return found
}
