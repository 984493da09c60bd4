package docs_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
)

// comparison is a row of the table of figures. It compares our result for one job in a file of
// bench/figures with the results of other tools in the same run.
type comparison struct {
	label, file, job string
	x                float64 // the figure's X, such as the number of keys
	contender        string
	others           []string // nil means all contenders except partd and tables
}

var storeComparisons = []comparison{
	{"sort 300 MB of CSV by one of 100,000 keys", "files", "sort", 1e5, "partd sort", nil},
	{"sum and count the rows of this file by key", "files", "sum", 1e5, "partd group", nil},
	{"bring together the values of each of 100,000 keys", "files", "values", 1e5, "partd group list()", nil},
	{"shuffle the rows of this file into a store", "files", "shuffle", 1e5, "partd shuffle", nil},
	{"write one file for each of 100,000 keys", "files", "split", 1e5, "partd split", nil},
	{"sort 1.3 GB of CSV", "sort", "sort", 1e5, "partd sort", nil},
	{"sum 10 million rows, grouped by six columns", "questions", "q10 sum v3, count by id1 to id6", 1e7, "partd, 256MiB", []string{"DuckDB", "DataFusion", "polars"}},
	{"log store: append values of 100 bytes to 1,000,000 keys", "stores", "append", 1e6, "logstore", nil},
	{"log store: read these values by key", "stores", "read", 1e6, "logstore", nil},
	{"server: append values of 100 bytes to 1,000 keys", "server", "append 1,000 keys of 100 B, Go client, 1 connection", 0, "partd-server", nil},
	{"server: append values of 1 MiB", "server", "append values of 1 MiB, Go client", 0, "partd-server", nil},
	{"server: read values of 1 MiB", "server", "get values of 1 MiB, Go client", 0, "partd-server", nil},
	{"dask: shuffle 5 million rows among two workers", "dask", "shuffle 5000000 rows", 0, "partd-workers", []string{"p2p-workers"}},
	{"dask: shuffle 5 million rows among two threads", "dask", "shuffle 5000000 rows", 0, "partd-threads", []string{"disk-threads"}},
}

var tableComparisons = []comparison{
	{"append a row", "tables", "append 1 row, acknowledged", 0, "tables", nil},
	{"append a row, and sync", "tables", "append 1 row, acknowledged", 0, "tables, synced", nil},
	{"append a row and sync, per row of 8 concurrent writers", "tables", "append 1 row to one table, synced; writers: 8", 0, "tables", nil},
	{"append 10 rows of 105 columns and sync", "tables", "append 10 rows of 105 columns, synced", 0, "tables", nil},
	{"append a million rows at once", "tables", "append 1000000 rows at once", 0, "tables", nil},
	{"read a column of a million rows with a filter", "tables", "read a column of 1000000 rows by a filter", 0, "tables", nil},
	{"answer 43 SQL queries about a million web hits", "tables", "43 queries of 1000000 hits", 0, "tables", nil},
	{"append a row to a series of a million rows, and sync", "tables", "append 1", 0, "tables, synced", nil},
	{"append 1,000 rows to this series, and sync", "tables", "append 1000", 0, "tables, synced", nil},
	{"append 100,000 rows to this series, and sync", "tables", "append 100000", 0, "tables, synced", nil},
	{"read two columns of 1 % of this series by time", "tables", "range", 0, "tables", nil},
	{"resample this series to minutes", "tables", "resample", 0, "tables", nil},
	{"resample this series and write the result", "tables", "resample and write", 0, "tables", nil},
	{"write 1,000 small tables, and sync", "tables", "tables", 0, "tables, synced", nil},
	{"find 100 of these tables by metadata", "tables", "find", 0, "tables", nil},
}

var contenderNames = map[string]string{
	"partd, 256MiB": "partd", "logstore": "partd", "partd-server": "partd", "tables, synced": "tables", "partd-workers": "partd", "partd-threads": "partd", "p2p-workers": "p2p", "disk-threads": "disk",
	"hashfiles": "256 hash files", "pebble-best": "Pebble, tuned", "DuckDB ORDER BY, its own way": "DuckDB ORDER BY", "Python's server": "Python's partd",
	"partd, 4GiB": "partd", "duckdb": "DuckDB", "arcticdb": "ArcticDB", "ducklake": "DuckLake", "quack": "Quack", "duckiceberg": "DuckDB's Iceberg reader", "Iceberg, by pyiceberg": "pyiceberg",
	"DuckDB, Iceberg": "DuckDB's Iceberg reader", "polars sort": "polars", "DuckDB 2.0.0": "DuckDB 2.0.0 from Python", "DuckDB, table": "DuckDB",
	"DuckDB, Parquet": "DuckDB on Parquet",
}

// figuresHeader is the first line of a file in bench/figures.
type figuresHeader struct {
	Input, Machine, Date, Commit string
	Versions                     map[string]string
	Limits                       map[string]string // memory limits by program, such as "512 MB"
}

// readFigures reads a file of bench/figures.
func readFigures(t *testing.T, name string) (h figuresHeader, all []benchdata.Figure) {
	t.Helper()
	data := must.Get(os.ReadFile("bench/figures/" + name + ".jsonl"))(t)
	for line := range bytes.Lines(data) {
		header := struct{ Header *figuresHeader }{&h}
		var f benchdata.Figure
		must.Do(t, errors.Join(json.Unmarshal(line, &header), json.Unmarshal(line, &f)))
		if f.Contender != "" {
			all = append(all, f)
		}
	}
	return h, all
}

// limitOf returns the memory limit of a contender, or "" if the benchmark has none. The longest name decides.
func (h figuresHeader) limitOf(contender string) (limit string) {
	if _, own, ok := strings.Cut(contender, ", "); ok && strings.HasPrefix(contender, "partd") {
		return strings.NewReplacer("MiB", " MiB", "GiB", " GiB").Replace(own)
	}
	longest := -1
	for program, l := range h.Limits {
		if strings.HasPrefix(contender, program) && len(program) > longest {
			limit, longest = l, len(program)
		}
	}
	return limit
}

// TestFigures compares the figures in the pages with bench/figures, or rewrites them with -update.
func TestFigures(t *testing.T) {
	tables := comparisonTable(t, "tables", tableComparisons)
	for page, want := range map[string]string{
		"README.md":              features(t),
		"docs/finish.md":         finishPage(t),
		"docs/dev/finish.md":     finishCommands(t),
		"docs/dev/benchmarks.md": comparisonTable(t, "partd", storeComparisons) + "\n" + tables,
	} {
		checkGenerated(t, page, "TestFigures", want)
	}
}

// features returns the table on the first screen of README.md.
func features(t *testing.T) string {
	figure := func(list []comparison, label string, others ...string) string {
		i := slices.IndexFunc(list, func(c comparison) bool { return c.label == label })
		c := list[i]
		c.others = others
		ours, peers := c.results(t)
		return fmt.Sprintf("%s: %s; %s", label, ours, peers)
	}
	return "| feature | example |\n|---|---|\n" +
		"| jobs on files stay within `--memory`, plus a tenth of it and 30 MiB, and compare their output with their input | " + figure(storeComparisons, "sum 10 million rows, grouped by six columns", "polars", "DuckDB") + " |\n" +
		"| 100,000 keys fit in the same memory as 1,000 | " + figure(storeComparisons, "bring together the values of each of 100,000 keys", "DuckDB string_agg") + " |\n" +
		"| each change of a `log:` or `file:` store is applied exactly once, even if tasks, connections or servers die | `.ci/long kills` kills [1,000 writers](CONTRIBUTING.md#long-runs): no append is lost, torn or applied twice |\n" +
		"| a row of a table is durable within a fraction of a millisecond, in a log (in Go, only with `Options.Sync`); other engines read it through [a server](tables/docs/engines.md) at once, and in Iceberg's files after a *fold*, which moves the log's rows there | " + figure(tableComparisons, "append a row to a series of a million rows, and sync", "arcticdb") + " |\n"
}

func comparisonTable(t *testing.T, ours string, list []comparison) string {
	table := "| job | " + ours + " | others in the same run |\n|---|---|---|\n"
	for _, c := range list {
		own, others := c.results(t)
		table += fmt.Sprintf("| %s | %s | %s |\n", c.label, strings.TrimPrefix(own, ours+" "), others)
	}
	return table
}

// results returns our result and the other tools' results, best first. If a tool fails in one way, its other ways to do
// the job are included, because it may succeed.
func (c comparison) results(t *testing.T) (ours, others string) {
	t.Helper()
	header, figures := readFigures(t, c.file)
	var all []benchdata.Figure
	failed := map[string]bool{} // by tool
	inJob := func(f benchdata.Figure) bool {
		isOurs := strings.HasPrefix(f.Contender, "partd") || strings.HasPrefix(f.Contender, "tables") || f.Contender == "logstore"
		return f.Job == c.job && f.X == c.x && !strings.Contains(f.Problem, "not installed") && (!isOurs || f.Contender == c.contender || slices.Contains(c.others, f.Contender))
	}
	for _, f := range figures {
		switch {
		case !inJob(f):
		case f.Contender == c.contender:
			ours = formatResult(f, header.limitOf(f.Contender))
		case c.others == nil, slices.Contains(c.others, f.Contender):
			all = append(all, f)
			failed[toolOf(f.Contender)] = failed[toolOf(f.Contender)] || f.Runs == 0
		}
	}
	if ours == "" || len(all) < len(c.others) {
		t.Fatalf("bench/figures/%s.jsonl lacks results of the job %q by %q or %q", c.file, c.job, c.contender, c.others)
	}
	for _, f := range figures {
		isKnown := slices.ContainsFunc(all, func(g benchdata.Figure) bool { return g.Contender == f.Contender })
		if inJob(f) && f.Contender != c.contender && failed[toolOf(f.Contender)] && !isKnown {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b benchdata.Figure) int {
		if a.Unit == "MB/s" {
			return cmp.Compare(b.Value, a.Value)
		}
		return cmp.Compare(a.Value, b.Value)
	})
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = formatResult(f, header.limitOf(f.Contender))
	}
	return ours, strings.Join(texts, "; ")
}

// toolOf returns the program of a contender, such as DuckDB of "DuckDB ORDER BY".
func toolOf(contender string) string {
	tool, _, _ := strings.Cut(contender, " ")
	return tool
}

// formatResult returns a result with the memory limit that the contender had, if any.
func formatResult(f benchdata.Figure, limit string) string {
	name := cmp.Or(contenderNames[f.Contender], f.Contender)
	if limit != "" {
		name += " (" + limit + ")"
	}
	if f.Runs == 0 {
		return name + " out of memory"
	}
	text := name + " " + formatValue(f)
	if f.Peak > 0 {
		text += fmt.Sprintf(" in %s MiB", humanize.Comma(f.Peak>>20))
	}
	return text
}

// formatValue returns a value with its unit.
func formatValue(f benchdata.Figure) string {
	value, unit := f.Value, f.Unit
	switch {
	case unit == "ms" && value >= 1000:
		value, unit = value/1000, "s"
	case unit == "ms" && value < 0.1:
		value, unit = value*1000, "µs"
	}
	text := humanize.Comma(int64(math.Round(value)))
	if value < 0.995 {
		text = fmt.Sprintf("%.2f", value)
	} else if value < 9.95 {
		text = fmt.Sprintf("%.1f", value)
	}
	return text + " " + unit
}

// checkGenerated compares the generated part of a page with want, or replaces it if -update is given.
func checkGenerated(t *testing.T, page, test, want string) {
	t.Helper()
	begin, end := "<!-- go test -run "+test+" ./docs -update -->\n", "<!-- end -->\n"
	text := must.Get(os.ReadFile(page))(t)
	before, rest, hasBegin := strings.Cut(string(text), begin)
	_, after, hasEnd := strings.Cut(rest, end)
	if !hasBegin || !hasEnd {
		t.Fatalf("%s lacks the lines %q and %q", page, begin, end)
	}
	want = before + begin + want + end + after
	if string(text) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date: run go test -run %s ./docs -update", page, test)
	}
	must.Do(t, os.WriteFile(page, []byte(want), 0o644))
}
