package docs_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestClusterPlan compares the table in docs/cluster.md with docs/cloud-plan.md, which a test of objstore
// checks. "go test -run TestClusterPlan ./docs -update" rewrites the table.
func TestClusterPlan(t *testing.T) {
	plan, err := os.ReadFile("docs/cloud-plan.md")
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, "docs/cluster.md", "TestClusterPlan", clusterTable(t, string(plan)))
}

func clusterTable(t *testing.T, plan string) string {
	var columns []string
	type memory struct{ dollars, minutes, disk string }
	type job struct {
		machines, data, storage string
		byMemory                map[string]memory
	}
	var jobs []job
	for line := range strings.Lines(plan) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if columns == nil {
			columns = cells
			continue
		}
		row := map[string]string{}
		for i, name := range columns {
			row[name] = cells[i]
		}
		seconds := 0.0
		for _, name := range []string{"upload s", "commit s", "read s"} {
			n, err := strconv.ParseFloat(row[name], 64)
			if err != nil {
				t.Fatalf("docs/cloud-plan.md: row %s: column %s: %v", line, name, err)
			}
			seconds += n
		}
		last := len(jobs) - 1
		if last < 0 || jobs[last].machines != row["writers"] || jobs[last].data != row["data"] {
			jobs = append(jobs, job{row["writers"], row["data"], row["storage $ a day"], map[string]memory{}})
			last++
		}
		jobs[last].byMemory[row["memory"]] = memory{row["requests $"], fmt.Sprintf("%.0f", max(1, seconds/60)), row["disk of a reader"]}
	}
	if len(jobs) < 9 {
		t.Fatalf("docs/cloud-plan.md has %d jobs, want at least 9", len(jobs))
	}
	table := "| machines | data | $ for requests, 4 GiB | minutes | $ for requests, 1 GiB | minutes | disk of a reader | $ a day for storage |\n|---|---|---|---|---|---|---|---|\n"
	for _, j := range jobs {
		more, less := j.byMemory["4 GiB"], j.byMemory["1 GiB"]
		table += fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", j.machines, j.data, more.dollars, more.minutes, less.dollars, less.minutes, less.disk, j.storage)
	}
	return table
}
