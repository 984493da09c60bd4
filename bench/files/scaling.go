package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
)

// scaled is the cost of a job at one size.
type scaled struct {
	Job    string  `json:"job"`
	Times  string  `json:"input_per_memory"`
	Bytes  int64   `json:"input_bytes"`
	Cost   float64 `json:"seconds_per_gb"`
	CPU    float64 `json:"cpu_seconds_per_gb"`
	VmHWM  int64   `json:"vmhwm_bytes"`
	Runs   int     `json:"runs"`
	Factor float64 `json:"cost_per_least"` // to the least of all sizes
}

// mostFactor is how much dearer a byte may be at one size than at another.
const mostFactor = 1.5

// scale runs partd's jobs on inputs of 1/4, 1, 4 and 16 times the memory, all
// sizes in turns.
func (f *flags) scale(ctx context.Context, jobs []job) error {
	if f.file != "" {
		return fmt.Errorf("--scaling makes its inputs: no --file")
	}
	names := []string{"1/4", "1", "4", "16"}
	var inputs []*input
	for i, size := range []int64{int64(f.memory) / 4, int64(f.memory), 4 * int64(f.memory), 16 * int64(f.memory)} {
		in := f.generated(size, f.keys[0])
		if err := f.prepare(in); err != nil {
			return err
		}
		in.name += ", " + names[i] + " of the memory"
		inputs = append(inputs, in)
	}
	var bad []error
	for _, j := range jobs {
		all := make([]*runs, len(inputs))
		for i := range all {
			all[i] = &runs{c: j.runs[0]}
		}
		for round := range f.rounds {
			for i, in := range inputs {
				if all[i].wrong {
					continue
				}
				r, err := f.once(ctx, in, j, all[i], round)
				if err != nil {
					return err
				}
				all[i].all = append(all[i].all, r)
			}
		}
		var list []scaled
		for i, in := range inputs {
			if err := wrong(in, j, all[i:i+1]); err != nil {
				bad = append(bad, err)
				continue
			}
			s := summarize(in, j, all[i:i+1])[0]
			list = append(list, scaled{Job: j.name, Times: names[i], Bytes: in.bytes, Cost: 1000 / s.Speed, CPU: s.CPU, VmHWM: s.VmHWM, Runs: s.Runs})
		}
		if err := f.writeScaled(j, list); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%d of the runs were wrong: %w", len(bad), bad[0])
	}
	return nil
}

func (f *flags) writeScaled(j job, list []scaled) error {
	if len(list) == 0 {
		return nil
	}
	least := slices.MinFunc(list, func(a, b scaled) int { return int(1e6 * (a.Cost - b.Cost)) }).Cost
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if !f.json {
		fmt.Printf("\n%s: partd, %s keys, %s, --memory %s\n", j.title, commas(f.keys[0]), f.dist, f.memory.String())
		fmt.Fprintf(t, "input per memory\tMB\ts/GB\tfactor\tCPU s/GB\tVmHWM MiB\truns\t\n")
	}
	most := 0.0
	for _, s := range list {
		s.Factor = s.Cost / least
		most = max(most, s.Factor)
		if f.json {
			if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%.2f\t%d\t%d\t\n", s.Times, s.Bytes/1e6, s.Cost, s.Factor, s.CPU, s.VmHWM>>20, s.Runs)
	}
	if f.json {
		return nil
	}
	if err := t.Flush(); err != nil {
		return err
	}
	word := "reached"
	if most > mostFactor {
		word = "MISSED"
	}
	_, err := fmt.Printf("goal: cost per byte within %.1f x: %s (%.2f x)\n", mostFactor, word, most)
	return err
}
