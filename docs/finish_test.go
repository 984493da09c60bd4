package docs_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
)

// finishTools are the columns of the tables in docs/finish.md.
var finishTools = []string{"partd", "partd-tables", "DuckDB", "polars", "DataFusion", "dask", "GNU sort", "Miller", "Python's partd"}

var finishJobs = [][2]string{
	{"split-30", "split, 30 keys"}, {"split-1000", "split, 1,000"}, {"split-100000", "split, 100,000"}, {"sort", "sort"}, {"list", "list"}, {"join", "join"}, {"distinct", "distinct"},
}

var finishEvents = [][2]string{
	{"full-split-1000", "disk full, split"}, {"full-sort", "disk full, sort"}, {"kill-split-1000", "killed, split"}, {"kill-sort", "killed, sort"},
}

// finishCSV are the tools that read and write CSV. The others read and write Parquet.
var finishCSV = []string{"partd", "GNU sort", "Miller", "Python's partd"}

// finishPage returns the generated part of docs/finish.md.
func finishPage(t *testing.T) string {
	h, figures := readFigures(t, "finish")
	cells := map[string]benchdata.Figure{} // later figures replace earlier ones
	for _, f := range figures {
		cells[fmt.Sprint(f.Contender, f.Job, f.X)] = f
	}
	versions := []string{"partd and partd-tables at commit " + h.Commit}
	for name, version := range h.Versions {
		if name == "partd" {
			name = "Python's partd"
		}
		versions = append(versions, name+" "+version)
	}
	slices.Sort(versions[1:])
	text := fmt.Sprintf("%s; %s; %s. Versions: %s.\n", h.Input, h.Machine, h.Date, strings.Join(versions, ", "))
	titles := ""
	for _, tool := range finishTools {
		titles += "|" + tool
		if slices.Contains(finishCSV, tool) {
			titles += " (CSV)"
		}
	}
	table := func(title string, jobs [][2]string, limit float64) {
		text += "\n|" + title + titles + "|\n" + strings.Repeat("|---", len(finishTools)+1) + "|\n"
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
	return text
}

// finishCommands returns the programs that the tools ran for docs/finish.md.
func finishCommands(t *testing.T) string {
	_, figures := readFigures(t, "finish")
	commands := map[string][]string{} // by tool
	for _, f := range figures {
		if f.Command != "" && !slices.Contains(commands[f.Contender], f.Command) {
			commands[f.Contender] = append(commands[f.Contender], f.Command)
		}
	}
	text := "```text\n"
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

// killMethods are the rows of the table of kills in docs/finish.md, and killFaults its columns.
var (
	killMethods = [][2]string{
		{"dask-p2p", "dask, p2p"},
		{"dask-disk", "dask, disk"},
		{"dask-files", "dask, partd's files"},
		{"dask-server", "dask, partd-server"},
		{"dask-shards", "dask, three servers"},
		{"dask-bucket", "dask, cloud bucket"},
		{"ray-own", "Ray's objects"},
		{"ray-server", "Ray, partd-server"},
		{"plain-server", "processes, partd-server"},
		{"plain-shards", "processes, three servers"},
		{"plain-bucket", "processes, bucket"},
	}
	killFaults = []string{"none", "worker", "server", "disk"}
)

// TestKills compares the table of shuffles with faults in docs/finish.md with bench/figures/kills.jsonl, or rewrites it with
// -update.
func TestKills(t *testing.T) {
	type result struct {
		Method, Fault           string
		Bytes, Lost, Doubled    int64
		Changed, Split, Retries int64
		Finished                bool
		Seconds                 float64
		Error                   string
	}
	const usual, large = 200_000_000, 400_000_000
	cells := map[[2]string]string{}
	for line := range strings.Lines(readFile(t, "bench/figures/kills.jsonl")) {
		var r result
		must.Do(t, json.Unmarshal([]byte(line), &r))
		text := fmt.Sprintf("%.0f", r.Seconds)
		switch {
		case r.Bytes > large || r.Method == "":
			continue
		case strings.HasPrefix(r.Error, "did not finish"):
			text = "not in 120"
		case !r.Finished:
			text = "error"
		case r.Lost+r.Doubled+r.Changed+r.Split > 0:
			text = fmt.Sprintf("**%s rows lost, %s doubled**", humanize.Comma(r.Lost), humanize.Comma(r.Doubled))
		}
		if r.Bytes != usual {
			text += "†"
		}
		key := [2]string{r.Method, r.Fault}
		switch before := cells[key]; {
		case before == "":
			cells[key] = text
		case before != text:
			cells[key] += fmt.Sprintf("; with `retries=%d`, %s", r.Retries, text)
		}
	}
	table := "| method | no fault | workers killed | server killed | disk full |\n|---|---|---|---|---|\n"
	for _, method := range killMethods {
		table += "| " + method[1]
		for _, fault := range killFaults {
			table += " | " + cmp.Or(cells[[2]string{method[0], fault}], "–")
		}
		table += " |\n"
	}
	checkGenerated(t, "docs/finish.md", "TestKills", table)
}
