package docs_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	{"sort 1.3 GB with 64 MiB of memory", "sort", "sort", 1e5, "partd sort", nil},
	{"sum 10 million rows, grouped by six columns, with 256 MiB", "questions", "q10 sum v3, count by id1 to id6", 1e7, "partd, 256MiB", []string{"DuckDB", "DataFusion", "polars"}},
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
	"duckdb": "DuckDB", "arcticdb": "ArcticDB", "ducklake": "DuckLake", "quack": "Quack", "duckiceberg": "DuckDB's Iceberg reader", "Iceberg, by pyiceberg": "pyiceberg",
	"DuckDB, Iceberg": "DuckDB's Iceberg reader", "polars sort": "polars", "DuckDB 2.0.0": "DuckDB 2.0.0 from Python", "DuckDB, table": "DuckDB",
	"DuckDB, Parquet": "DuckDB on Parquet",
}

// TestFigures compares the figures in the pages with bench/figures, or rewrites them with -update.
func TestFigures(t *testing.T) {
	tables := comparisonTable(t, "tables", tableComparisons)
	for page, want := range map[string]string{
		"README.md":              uniqueFeatures(t),
		"docs/finish.md":         finishPage(t),
		"docs/dev/benchmarks.md": comparisonTable(t, "partd", storeComparisons) + "\n" + tables,
	} {
		checkGenerated(t, page, "TestFigures", want)
	}
}

// uniqueFeatures returns the table on the first screen of README.md.
func uniqueFeatures(t *testing.T) string {
	figure := func(list []comparison, label string, others ...string) string {
		i := slices.IndexFunc(list, func(c comparison) bool { return c.label == label })
		c := list[i]
		c.others = others
		ours, peers := c.results(t)
		return fmt.Sprintf("%s: %s; %s", label, ours, peers)
	}
	return "| unique feature | example |\n|---|---|\n" +
		"| jobs on files stay within `--memory`, and compare their output with their input | " + figure(storeComparisons, "sum 10 million rows, grouped by six columns, with 256 MiB", "polars") + " |\n" +
		"| 100,000 keys need no more memory than a few | " + figure(storeComparisons, "bring together the values of each of 100,000 keys", "DuckDB string_agg") + " |\n" +
		"| each change is applied exactly once, even if tasks, connections or servers die | `.ci/long kills` kills [1,000 writers](CONTRIBUTING.md#long-runs): no append is lost, torn or applied twice |\n" +
		"| a row is durable within a fraction of a millisecond, in an Iceberg table that other engines read | " + figure(tableComparisons, "append a row to a series of a million rows, and sync", "arcticdb") + " |\n"
}

func comparisonTable(t *testing.T, ours string, list []comparison) string {
	table := "| job | " + ours + " | others in the same run |\n|---|---|---|\n"
	for _, c := range list {
		own, others := c.results(t)
		table += fmt.Sprintf("| %s | %s | %s |\n", c.label, strings.TrimPrefix(own, ours+" "), others)
	}
	return table
}

// results returns our result and the other tools' results, best first.
func (c comparison) results(t *testing.T) (ours, others string) {
	t.Helper()
	data := must.Get(os.ReadFile("bench/figures/" + c.file + ".jsonl"))(t)
	var all []benchdata.Figure
	for line := range bytes.Lines(data) {
		var f benchdata.Figure
		must.Do(t, json.Unmarshal(line, &f))
		isOurs := strings.HasPrefix(f.Contender, "partd") || strings.HasPrefix(f.Contender, "tables") || f.Contender == "logstore"
		switch {
		case f.Job != c.job || f.X != c.x || strings.Contains(f.Problem, "not installed"):
		case f.Contender == c.contender:
			ours = formatResult(f)
		case c.others == nil && !isOurs, slices.Contains(c.others, f.Contender):
			all = append(all, f)
		}
	}
	if ours == "" || len(all) < len(c.others) {
		t.Fatalf("bench/figures/%s.jsonl lacks results of the job %q by %q or %q", c.file, c.job, c.contender, c.others)
	}
	slices.SortStableFunc(all, func(a, b benchdata.Figure) int {
		if a.Unit == "MB/s" {
			return cmp.Compare(b.Value, a.Value)
		}
		return cmp.Compare(a.Value, b.Value)
	})
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = formatResult(f)
	}
	return ours, strings.Join(texts, "; ")
}

func formatResult(f benchdata.Figure) string {
	name := cmp.Or(contenderNames[f.Contender], f.Contender)
	if f.Runs == 0 {
		return name + " out of memory"
	}
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
	text = name + " " + text + " " + unit
	if f.Peak > 0 {
		text += fmt.Sprintf(" in %s MiB", humanize.Comma(f.Peak>>20))
	}
	return text
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

// finishTools are the columns of the tables in docs/finish.md.
var finishTools = []string{"partd", "partd-tables", "DuckDB", "polars", "DataFusion", "dask", "GNU sort", "Miller", "Python's partd"}

var finishJobs = [][2]string{
	{"split-30", "split, 30 keys"}, {"split-1000", "split, 1,000"}, {"split-100000", "split, 100,000"}, {"sort", "sort"}, {"list", "list"}, {"join", "join"}, {"distinct", "distinct"},
}

var finishEvents = [][2]string{
	{"full-split-1000", "disk full, split"}, {"full-sort", "disk full, sort"}, {"kill-split-1000", "killed, split"}, {"kill-sort", "killed, sort"},
}

// finishPage returns the generated part of docs/finish.md.
func finishPage(t *testing.T) string {
	data := must.Get(os.ReadFile("bench/figures/finish.jsonl"))(t)
	var header struct {
		Header struct {
			Input, Machine, Date string
			Versions             map[string]string
		}
	}
	cells := map[string]benchdata.Figure{} // later figures replace earlier ones
	for line := range bytes.Lines(data) {
		var f benchdata.Figure
		must.Do(t, errors.Join(json.Unmarshal(line, &header), json.Unmarshal(line, &f)))
		cells[fmt.Sprint(f.Contender, f.Job, f.X)] = f
	}
	commands := map[string][]string{} // by tool
	for _, f := range cells {
		if f.Command != "" && !slices.Contains(commands[f.Contender], f.Command) {
			commands[f.Contender] = append(commands[f.Contender], f.Command)
		}
	}
	h := header.Header
	var versions []string
	for name, version := range h.Versions {
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions)
	text := fmt.Sprintf("%s; %s; %s. Versions: %s.\n", h.Input, h.Machine, h.Date, strings.Join(versions, ", "))
	table := func(title string, jobs [][2]string, limit float64) {
		text += "\n|" + title + "|" + strings.Join(finishTools, "|") + "|\n" + strings.Repeat("|---", len(finishTools)+1) + "|\n"
		for _, job := range jobs {
			text += "|" + job[1]
			for _, tool := range finishTools {
				text += "|" + finishCell(cells[fmt.Sprint(tool, job[0], limit)])
				if advised, ok := cells[fmt.Sprint(tool, ", advised", job[0], limit)]; ok {
					text += "→" + finishCell(advised)
				}
			}
			text += "|\n"
		}
	}
	table("256 MiB", finishJobs, 256)
	if slices.ContainsFunc(slices.Collect(maps.Values(cells)), func(f benchdata.Figure) bool { return f.X == 1024 }) {
		table("1 GiB", finishJobs, 1024)
	}
	table("event", finishEvents, 256)
	text += "\n```text\n"
	for _, tool := range finishTools {
		text += commandsOf(tool, commands[tool], "")
		text += commandsOf(tool+", advised", commands[tool+", advised"], text)
	}
	return text + "```\n"
}

// finishCell returns seconds and MiB of memory, or why there is no complete output.
func finishCell(f benchdata.Figure) string {
	for prefix, short := range map[string]string{"took": "time", "used": "stopped", "out of": "memory", "not measured": "–", "workers": "workers", "exit status": "error"} {
		if strings.HasPrefix(f.Problem, prefix) {
			return short
		}
	}
	switch {
	case f.Contender == "":
		return "–"
	case f.Problem != "":
		return f.Problem
	}
	memory := humanize.Comma(f.Peak >> 20)
	if float64(f.Peak>>20) > 1.1*f.X {
		memory = "**" + memory + "**"
	}
	return fmt.Sprintf("%.0f/%s", f.Value, memory)
}

// commandsOf returns the lines that all commands share, and then the other lines that known does not contain.
func commandsOf(name string, commands []string, known string) string {
	if len(commands) == 0 {
		return ""
	}
	slices.Sort(commands)
	shared := commands[0][:strings.LastIndex(commands[0], "\n")+1]
	for _, c := range commands {
		for !strings.HasPrefix(c, shared) {
			shared = shared[:strings.LastIndex(shared[:len(shared)-1], "\n")+1]
		}
	}
	text := "# " + name + "\n" + strings.TrimLeft(shared, "\n")
	for _, c := range commands {
		if line := strings.TrimSpace(strings.TrimPrefix(c, shared)) + "\n"; !strings.Contains(known, "\n"+line) {
			text += line
		}
	}
	return text
}
