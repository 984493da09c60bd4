package partd_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// docs/cluster.md has a part of the planner's page, which a test of objstore compares
// with the planner: "go test -run TestClusterPlan . -update" writes it again.
func TestClusterPlan(t *testing.T) {
	const begin, end = "<!-- go test -run TestClusterPlan . -update -->\n", "<!-- end -->\n"
	plan, err := os.ReadFile("docs/cloud-plan.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("docs/cluster.md has no lines %q and %q", begin, end)
	}
	want := before + begin + clusterTable(t, string(plan)) + end + after
	if string(page) == want {
		return
	}
	if !*update {
		t.Fatalf("docs/cluster.md has other numbers than docs/cloud-plan.md: go test -run TestClusterPlan . -update")
	}
	if err := os.WriteFile("docs/cluster.md", []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// clusterTable makes a row of each job of the plan, whatever the memory.
func clusterTable(t *testing.T, plan string) string {
	var columns []string
	type memory struct{ dollars, minutes, disk string }
	type job struct {
		machines, data, storage string
		by                      map[string]memory
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
		of := map[string]string{}
		for i, name := range columns {
			of[name] = cells[i]
		}
		seconds := 0.0
		for _, name := range []string{"upload s", "commit s", "read s"} {
			n, err := strconv.ParseFloat(of[name], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			seconds += n
		}
		last := len(jobs) - 1
		if last < 0 || jobs[last].machines != of["writers"] || jobs[last].data != of["data"] {
			jobs = append(jobs, job{of["writers"], of["data"], of["storage $ a day"], map[string]memory{}})
			last++
		}
		jobs[last].by[of["memory"]] = memory{of["requests $"], fmt.Sprintf("%.0f", max(1, seconds/60)), of["disk of a reader"]}
	}
	if len(jobs) < 9 {
		t.Fatalf("docs/cloud-plan.md has %d jobs", len(jobs))
	}
	table := "| machines | data | $ for requests, 4 GiB | minutes | $ for requests, 1 GiB | minutes | disk of a reader | $ a day for storage |\n|---|---|---|---|---|---|---|---|\n"
	for _, j := range jobs {
		more, less := j.by["4 GiB"], j.by["1 GiB"]
		table += fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |\n", j.machines, j.data, more.dollars, more.minutes, less.dollars, less.minutes, less.disk, j.storage)
	}
	return table
}
