package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/benchdata"
)

// goal is the speed that partd should reach in a job: absolute, or relative to a peer.
type goal struct {
	speed float64 // MB/s; 0 if the goal is relative
	ratio float64 // partd's speed divided by the peer's speed
	peer  string  // label of the peer's contender
}

// summary holds the medians of a contender's successful runs.
type summary struct {
	How     string
	Runs    int
	Speed   float64
	Ratio   float64 // the contender's time divided by partd's time in the same round
	CPU     float64
	VmHWM   int64 // maximum of the runs, not the median
	Slowest float64
	Fastest float64
	Output  string
}

func summarize(results []*contenderRuns) (list []summary) {
	for _, rs := range results {
		s := summary{How: rs.c.label, Output: "skipped: " + rs.skip}
		var speeds, cpus, ratios []float64
		for _, r := range rs.runs {
			s.Output = outcome(rs)
			if r.Problem != "" {
				s.Output = r.Problem
				continue
			}
			s.VmHWM = max(s.VmHWM, r.VmHWM)
			speeds = append(speeds, float64(r.Bytes)/1e6/r.Seconds)
			cpus = append(cpus, r.CPU/float64(r.Bytes)*1e9)
			if p := results[0]; p.c.peer == "partd" && r.Round <= len(p.runs) && p.runs[r.Round-1].Problem == "" {
				ratios = append(ratios, r.Seconds/p.runs[r.Round-1].Seconds)
			}
		}
		s.Runs, s.Speed, s.CPU, s.Ratio = len(speeds), program.Median(speeds), program.Median(cpus), program.Median(ratios)
		if len(speeds) > 0 {
			s.Slowest, s.Fastest = slices.Min(speeds), slices.Max(speeds)
		}
		list = append(list, s)
	}
	return list
}

func outcome(rs *contenderRuns) string {
	if rs.c.isUnordered {
		return "right, in any order within a key"
	}
	return "right"
}

func (f *flags) writeFigures(src *input, j job, results []*contenderRuns) error {
	for i, s := range summarize(results) {
		figure := benchdata.Figure{
			Bench: "files", Job: j.name, Contender: s.How, X: float64(cmp.Or(src.keys, int64(src.expected.rows.Keys))), Unit: "MB/s",
			Value: s.Speed, Min: s.Slowest, Max: s.Fastest, Runs: s.Runs, Peak: s.VmHWM,
		}
		if j.question != nil {
			figure.Job += " " + j.title
		}
		if s.Runs == 0 {
			figure.Problem = s.Output
		} else if f.trace {
			ran := slices.DeleteFunc(slices.Clone(results[i].runs), func(r run) bool { return r.Problem != "" })
			slices.SortFunc(ran, func(a, b run) int { return cmp.Compare(a.Seconds, b.Seconds) })
			figure.Trace = ran[len(ran)/2].trace
		}
		if err := benchdata.AppendFigures(f.figures, figure); err != nil {
			return err
		}
	}
	return nil
}

func (f *flags) writeTable(w io.Writer, src *input, j job, results []*contenderRuns) error {
	list := summarize(results)
	fmt.Fprintf(w, "\n%s: %s, %d MB, %s keys, --memory %s\n", j.title, src.name, src.bytes/1e6, humanize.Comma(int64(src.expected.rows.Keys)), f.memory.String())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\tMB/s\tfrom\tto\tpartd is faster\tCPU s/GB\tVmHWM MiB\truns\t  output\n")
	for _, s := range list {
		if s.Runs == 0 {
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t0\t  %s\n", s.How, s.Output)
			continue
		}
		ratio := "-"
		if s.Ratio > 0 {
			ratio = fmt.Sprintf("%.2f x", s.Ratio)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%s\t%.2f\t%.0f\t%d\t  %s\n",
			s.How, s.Speed, s.Slowest, s.Fastest, ratio, s.CPU, float64(s.VmHWM)/(1<<20), s.Runs, s.Output)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, f.verdict(j.goal, list))
	return err
}

// verdict describes which goals are reached. It returns "" if partd did not run.
func (f *flags) verdict(g goal, list []summary) string {
	i := slices.IndexFunc(list, func(s summary) bool { return strings.HasPrefix(s.How, "partd ") })
	if i < 0 || list[i].Runs == 0 {
		return ""
	}
	s := list[i]
	var b strings.Builder
	word := func(ok bool) string {
		if ok {
			return "reached"
		}
		return "MISSED"
	}
	switch {
	case g.speed > 0:
		fmt.Fprintf(&b, "goal: %.0f MB/s: %s (%.0f)", g.speed, word(s.Speed >= g.speed), s.Speed)
	case g.peer != "":
		peerIndex := slices.IndexFunc(list, func(s summary) bool { return s.How == g.peer && s.Runs > 0 })
		if peerIndex < 0 {
			fmt.Fprintf(&b, "goal: %.0f x %s: not compared", g.ratio, g.peer)
			break
		}
		fmt.Fprintf(&b, "goal: %.0f x %s: %s (%.2f x)", g.ratio, g.peer, word(list[peerIndex].Ratio >= g.ratio), list[peerIndex].Ratio)
	}
	limit := int64(f.memory)*11/10 + 30<<20
	fmt.Fprintf(&b, "; VmHWM at most %d MiB: %s (%d)\n", limit>>20, word(s.VmHWM <= limit), s.VmHWM>>20)
	return b.String()
}
