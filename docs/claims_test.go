package docs_test

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
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
	for _, section := range claimSections {
		rows := claimRows(t, section[0], section[1])
		if len(rows) < 3 {
			t.Errorf("%s has %d rows after %q, want at least 3", section[0], len(rows), section[1])
		}
		for _, row := range rows {
			i := slices.IndexFunc(claims, func(c *claim) bool {
				return c.page == section[0] && !c.used && strings.HasPrefix(plainRow(row), c.label)
			})
			if i < 0 {
				t.Errorf("%s: no entry in docs/claims.txt for the row\n%s", section[0], row)
				continue
			}
			claims[i].used = true
			problems := claims[i].check(t, row)
			if rest := claims[i].unsaid(row); section != claimSections[0] && rest != "" { // TestFigures writes the first section
				problems = append(problems, "the entry does not say: "+rest)
			}
			for _, problem := range problems {
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

var linkTarget = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// plainRow returns a row without the marks of code, bold text and links.
func plainRow(row string) string {
	return strings.NewReplacer("**", "", "`", "").Replace(linkTarget.ReplaceAllString(row, "$1"))
}

// unsaid returns the text of a row that is neither its label nor in a "says" line of its entry, or "" if that has no letters.
func (c *claim) unsaid(row string) string {
	rest := strings.TrimPrefix(plainRow(row), c.label)
	for _, source := range c.sources {
		if text, ok := strings.CutPrefix(source, "says "); ok {
			rest = strings.Replace(rest, text, "", 1)
		}
	}
	if !strings.ContainsFunc(rest, unicode.IsLetter) {
		return ""
	}
	return rest
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
