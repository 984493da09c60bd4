package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestTools checks that each tool finishes each job with a small input, without losing rows.
func TestTools(t *testing.T) {
	b := small(t)
	b.figures = filepath.Join(b.dir, "figures.jsonl")
	var names []string
	for _, tool := range tools {
		names = append(names, tool.name)
	}
	must.Do(t, b.run(t.Context(), []string{"split-30", "list"}, names))
	text := must.Get(os.ReadFile(b.figures))(t)
	finished := 0
	for line := range bytes.Lines(text) {
		var f benchdata.Figure
		must.Do(t, json.Unmarshal(line, &f))
		if f.Runs != 1 {
			t.Errorf("%s by %s: %s", f.Job, f.Contender, f.Problem)
		}
		finished++
	}
	if want := 2*8 + 1; finished != want { // all eight for both jobs, and Python's partd, which only splits
		t.Errorf("%d runs, want %d", finished, want)
	}
}

// TestLedger checks that lost, doubled, damaged and moved rows are found.
func TestLedger(t *testing.T) {
	b := small(t)
	input, out := filepath.Join(b.dir, "input"), filepath.Join(b.dir, "out")
	must.Do(t, errors.Join(os.Mkdir(input, 0o777), os.Mkdir(out, 0o777)))
	must.Get(b.data(t.Context(), "make", input, "rows.csv"))(t)
	text := must.Get(os.ReadFile(filepath.Join(input, "rows.csv")))(t)
	rows := strings.SplitAfter(string(text), "\n")
	for want, change := range map[string]func(rows []string) []string{
		"":                            func(rows []string) []string { return rows },
		"2 rows lost":                 func(rows []string) []string { return append(rows[:5:5], rows[7:]...) },
		"1 rows doubled":              func(rows []string) []string { return append(rows, rows[9]) },
		"1 rows damaged":              func(rows []string) []string { rows[3] = strings.Replace(rows[3], ",k", ",k9", 1); return rows },
		"1 rows damaged, 1 rows lost": func(rows []string) []string { rows[3] = rows[3][:len(rows[3])-9] + "\n"; return rows },
		"1 rows doubled, 1 rows lost": func(rows []string) []string { rows[8] = rows[4]; return rows },
	} {
		must.Do(t, os.WriteFile(filepath.Join(out, "data.csv"), []byte(strings.Join(change(slices.Clone(rows)), "")), 0o666))
		found := must.Get(b.data(t.Context(), "check", out, "split-30"))(t)
		var l ledger
		must.Do(t, json.Unmarshal(found, &l))
		if got := l.problem(); got != want {
			t.Errorf("the ledger finds %q, want %q", got, want)
		}
	}
}

func small(t *testing.T) *bench {
	t.Helper()
	python := program.PeerPython("pytables")
	if exec.Command(python, "-c", "import dask, datafusion, duckdb, partd, polars, pyarrow").Run() != nil {
		procs.Skip(t, "%s lacks the tools: run .ci/peers pytables", python)
	}
	if _, err := exec.LookPath("mlr"); err != nil {
		procs.Skip(t, "Miller is not installed")
	}
	t.Chdir("../..")
	return &bench{bytes: 1_000_000, limits: []program.Size{2 << 30}, timeout: time.Minute, dir: t.TempDir(), python: python, seconds: map[string]float64{}, slow: map[string]string{}}
}
