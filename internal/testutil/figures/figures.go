// Package figures writes what benchmarks measured, as lines of JSON of one shape, of which
// docs/plots/draw makes pictures.
package figures

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
)

// Figure is what one program took for one job.
type Figure struct {
	Bench string  `json:"bench"`
	Job   string  `json:"job"`
	Who   string  `json:"who"`
	X     float64 `json:"x,omitempty"` // what the job is measured by, as a number of keys
	Value float64 `json:"value"`       // the median
	Least float64 `json:"least,omitempty"`
	Most  float64 `json:"most,omitempty"`
	Unit  string  `json:"unit"`
	Runs  int     `json:"runs"`
	Peak  int64   `json:"peak_bytes,omitempty"`
	// Trace is seconds since the start, and bytes of memory at that time.
	Trace [][2]float64 `json:"trace,omitempty"`
	// Problem says why there is no value.
	Problem string `json:"problem,omitempty"`
}

// Of returns f with the median, the least and the most of some runs.
func (f Figure) Of(runs []float64) Figure {
	f.Value, f.Runs = Median(runs), len(runs)
	if f.Runs > 0 {
		f.Least, f.Most = slices.Min(runs), slices.Max(runs)
	}
	return f
}

// Median is 0 of nothing.
func Median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// Append adds lines to a file. Where path is empty, nobody asked for them.
func Append(path string, all ...Figure) (err error) {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, one := range all {
		if err := json.NewEncoder(f).Encode(one); err != nil {
			return err
		}
	}
	return nil
}
