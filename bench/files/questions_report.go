package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// questionResult is a question with the medians of its contenders, partd first.
type questionResult struct {
	in   *input
	job  job
	list []summary
}

// measureQuestions measures the questions and writes one table of the results.
func (f *flags) measureQuestions(ctx context.Context, jobs []job, peers map[string]string) (bad error) {
	var done []questionResult
	for i, j := range jobs {
		more, err := f.withMemories(j)
		if err != nil {
			return err
		}
		j.runs = slices.Insert(j.runs, 1, more...)
		in, err := f.questionInput(ctx, j.question)
		if err != nil {
			return err
		}
		all, err := f.measure(ctx, in, j, peers)
		if err != nil {
			return err
		}
		done = append(done, questionResult{in, j, summarize(in, j, all)})
		bad = errors.Join(bad, wrongOutputs(in, j, all), f.writeFigures(in, j, all))
		if f.json {
			bad = errors.Join(bad, writeMedians(os.Stdout, in, j, all))
		}
		for _, t := range in.tables {
			needed := slices.ContainsFunc(jobs[i+1:], func(next job) bool {
				return slices.ContainsFunc(f.tables(next.question), func(o *table) bool { return o.path == t.path })
			})
			if !needed && !f.keep {
				bad = errors.Join(bad, os.Remove(t.path))
			}
		}
	}
	switch {
	case len(done) == 0:
		return nil
	case f.json:
		return errors.Join(bad, json.NewEncoder(os.Stdout).Encode(map[string]ratios{"summary": ratiosOf(done)}))
	}
	return errors.Join(bad, f.writeQuestions(os.Stdout, done))
}

// withMemories returns partd as a contender with each memory size of --also.
func (f *flags) withMemories(j job) (all []contender, err error) {
	for size := range strings.FieldsFuncSeq(f.alsoIn, func(r rune) bool { return r == ',' }) {
		copied := *f
		if err := copied.memory.Set(size); err != nil {
			return nil, fmt.Errorf("--also: %w", err)
		}
		all = append(all, contender{peer: "partd", label: "partd, " + size, command: func(_ *flags, in *input, out string) *exec.Cmd {
			return j.question.partd(&copied, in, out)
		}})
	}
	return all, nil
}

// ratios summarizes the time of the fastest peer divided by partd's time.
type ratios struct {
	N       int     `json:"questions"`
	Mean    float64 `json:"geometric_mean"`
	Least   float64 `json:"least"`
	LeastAt string  `json:"least_at"`
	Peak    int64   `json:"partd_vmhwm_bytes"`
}

// fastestPeer returns the fastest peer, or nil if there is nothing to compare.
func (a questionResult) fastestPeer() (best *summary) {
	for i, s := range a.list {
		if strings.HasPrefix(s.Output, "right") && s.Ratio > 0 && !strings.HasPrefix(s.How, "partd") && (best == nil || s.Ratio < best.Ratio) {
			best = &a.list[i]
		}
	}
	return best
}

func ratiosOf(done []questionResult) (r ratios) {
	logs := 0.0
	for _, a := range done {
		r.Peak = max(r.Peak, a.list[0].VmHWM)
		if best := a.fastestPeer(); best != nil {
			logs, r.N = logs+math.Log(best.Ratio), r.N+1
			if r.N == 1 || best.Ratio < r.Least {
				r.Least, r.LeastAt = best.Ratio, a.job.name
			}
		}
	}
	r.Mean = math.Exp(logs / float64(max(r.N, 1)))
	return r
}

// cell formats a field of the table.
func (s summary) cell(in *input) string {
	switch {
	case strings.HasPrefix(s.Output, "right"):
		mb := float64(in.bytes) / 1e6
		return fmt.Sprintf("%.2f / %.2f / %d", mb/s.Speed, s.CPU*mb/1e3, s.VmHWM>>20)
	case strings.Contains(s.Output, "emory") || strings.Contains(s.Output, "ResourcesExhausted"):
		return "out of memory"
	}
	return strings.ReplaceAll(s.Output[:min(len(s.Output), 80)], "|", "\\|")
}

// writeQuestions writes the table as Markdown.
func (f *flags) writeQuestions(w io.Writer, done []questionResult) error {
	var measured, absent []string
	for _, a := range done {
		for _, s := range a.list {
			if _, reason, not := strings.Cut(s.Output, "skipped: "); not && !slices.Contains(absent, reason) {
				absent = append(absent, reason)
			} else if !not && !slices.Contains(measured, s.How) {
				measured = append(measured, s.How)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s; partd with --memory %s, DuckDB and DataFusion with %s, the others without a limit; %d threads. Seconds / CPU seconds / peak MiB:\n\n"+
		"| question | %s | best other ÷ partd |\n|---|%s---|\n", done[0].in.name, &f.memory, &f.duckdbMemory, f.threads, strings.Join(measured, " | "), strings.Repeat("---|", len(measured)))
	for _, a := range done {
		fmt.Fprintf(&b, "| %s %s |", a.job.name, a.job.title)
		for _, name := range measured {
			cell := "–"
			if i := slices.IndexFunc(a.list, func(s summary) bool { return s.How == name }); i >= 0 {
				cell = a.list[i].cell(a.in)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		if best := a.fastestPeer(); best != nil {
			fmt.Fprintf(&b, " %.2f, %s |\n", best.Ratio, best.How)
		} else {
			b.WriteString(" – |\n")
		}
	}
	if r := ratiosOf(done); r.N > 0 {
		fmt.Fprintf(&b, "\nBest other ÷ partd: %.2f (geometric mean of %d), minimum %.2f (%s). Peak VmHWM of partd: %d MiB (limit: %d).\n",
			r.Mean, r.N, r.Least, r.LeastAt, r.Peak>>20, (int64(f.memory)*11/10+30<<20)>>20)
	}
	if len(absent) > 0 {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", strings.Join(absent, "; "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
