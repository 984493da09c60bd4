package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
)

type questionResult struct {
	src  *input
	job  job
	list []summary // one for each contender, partd first
}

// measureQuestions measures the questions and writes one table. Wrong outputs are errors.
func (f *flags) measureQuestions(ctx context.Context, jobs []job, peers map[string]string) (wrongErr error) {
	var results []questionResult
	for i, j := range jobs {
		extra, err := f.memoryContenders(j)
		if err != nil {
			return err
		}
		j.contenders = slices.Insert(j.contenders, 1, extra...)
		src, err := f.questionInput(ctx, j.question)
		if err != nil {
			return err
		}
		contenders, err := f.measure(ctx, src, j, peers)
		if err != nil {
			return err
		}
		results = append(results, questionResult{src, j, summarize(contenders)})
		wrongErr = errors.Join(wrongErr, wrongOutputs(src, j, contenders), f.writeFigures(src, j, contenders))
		for _, t := range src.tables {
			needed := slices.ContainsFunc(jobs[i+1:], func(next job) bool {
				return slices.ContainsFunc(f.tables(next.question), func(o *table) bool { return o.path == t.path })
			})
			if !needed {
				wrongErr = errors.Join(wrongErr, os.Remove(t.path))
			}
		}
	}
	if len(results) == 0 {
		return nil
	}
	return errors.Join(wrongErr, f.writeQuestions(os.Stdout, results))
}

// memoryContenders returns partd as a separate contender for each memory size of --also.
func (f *flags) memoryContenders(j job) (contenders []contender, err error) {
	for size := range strings.FieldsFuncSeq(f.alsoIn, func(r rune) bool { return r == ',' }) {
		copied := *f
		if err := copied.memory.Set(size); err != nil {
			return nil, fmt.Errorf("--also: %w", err)
		}
		contenders = append(contenders, contender{peer: "partd", label: "partd, " + size, command: func(_ *flags, src *input, outDir string) *exec.Cmd {
			return j.question.partd(&copied, src, outDir)
		}})
	}
	return contenders, nil
}

// ratios summarizes one ratio over all questions: the fastest peer's time divided by partd's time.
type ratios struct {
	N           int
	Mean        float64
	Min         float64
	MinQuestion string
	Peak        int64
}

// fastestPeer returns the fastest peer with a correct output, or nil if every peer failed.
func (a questionResult) fastestPeer() (fastest *summary) {
	for i, s := range a.list {
		if strings.HasPrefix(s.Output, "right") && s.Ratio > 0 && !strings.HasPrefix(s.How, "partd") && (fastest == nil || s.Ratio < fastest.Ratio) {
			fastest = &a.list[i]
		}
	}
	return fastest
}

func ratiosOf(results []questionResult) (r ratios) {
	logs := 0.0
	for _, a := range results {
		r.Peak = max(r.Peak, a.list[0].VmHWM)
		if fastest := a.fastestPeer(); fastest != nil {
			logs, r.N = logs+math.Log(fastest.Ratio), r.N+1
			if r.N == 1 || fastest.Ratio < r.Min {
				r.Min, r.MinQuestion = fastest.Ratio, a.job.name
			}
		}
	}
	r.Mean = math.Exp(logs / float64(max(r.N, 1)))
	return r
}

func (s summary) cell(src *input) string {
	switch {
	case strings.HasPrefix(s.Output, "right"):
		mb := float64(src.bytes) / 1e6
		return fmt.Sprintf("%.2f / %.2f / %d", mb/s.Speed, s.CPU*mb/1e3, s.VmHWM>>20)
	case strings.Contains(s.Output, "emory") || strings.Contains(s.Output, "ResourcesExhausted"):
		return "out of memory"
	}
	return strings.ReplaceAll(s.Output[:min(len(s.Output), 80)], "|", "\\|")
}

func (f *flags) writeQuestions(w io.Writer, results []questionResult) error {
	var measured, skipReasons []string
	for _, a := range results {
		for _, s := range a.list {
			if _, reason, wasSkipped := strings.Cut(s.Output, "skipped: "); wasSkipped && !slices.Contains(skipReasons, reason) {
				skipReasons = append(skipReasons, reason)
			} else if !wasSkipped && !slices.Contains(measured, s.How) {
				measured = append(measured, s.How)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s; partd with --memory %s, DuckDB and DataFusion with %s, the other programs without a limit; %d threads. Seconds / CPU seconds / peak MiB:\n\n"+
		"| question | %s | best other ÷ partd |\n|---|%s---|\n", results[0].src.name, &f.memory, &f.duckdbMemory, f.threads, strings.Join(measured, " | "), strings.Repeat("---|", len(measured)))
	for _, a := range results {
		fmt.Fprintf(&b, "| %s %s |", a.job.name, a.job.title)
		for _, name := range measured {
			cell := "–"
			if i := slices.IndexFunc(a.list, func(s summary) bool { return s.How == name }); i >= 0 {
				cell = a.list[i].cell(a.src)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		if fastest := a.fastestPeer(); fastest != nil {
			fmt.Fprintf(&b, " %.2f, %s |\n", fastest.Ratio, fastest.How)
		} else {
			b.WriteString(" – |\n")
		}
	}
	if r := ratiosOf(results); r.N > 0 {
		fmt.Fprintf(&b, "\nBest other ÷ partd: %.2f (geometric mean of %d), minimum %.2f (%s). Peak VmHWM of partd: %d MiB (limit: %d).\n",
			r.Mean, r.N, r.Min, r.MinQuestion, r.Peak>>20, (int64(f.memory)*11/10+30<<20)>>20)
	}
	if len(skipReasons) > 0 {
		fmt.Fprintf(&b, "\nNot measured: %s.\n", strings.Join(skipReasons, "; "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
