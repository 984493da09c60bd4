package docs_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/testutil/benchdata"
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
