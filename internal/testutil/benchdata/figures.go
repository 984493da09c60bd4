package benchdata

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
)

// Figure is the result of one contender at one job.
type Figure struct {
	Bench     string  `json:"bench"`
	Job       string  `json:"job"`
	Contender string  `json:"who"`
	X         float64 `json:"x,omitempty"` // size of the job, such as its number of keys
	Value     float64 `json:"value"`       // the median
	Min       float64 `json:"least,omitempty"`
	Max       float64 `json:"most,omitempty"`
	Unit      string  `json:"unit"`
	Runs      int     `json:"runs"`
	Peak      int64   `json:"peak_bytes,omitempty"`
	// Each element of Trace holds the seconds since the start, and the bytes of memory in use.
	Trace [][2]float64 `json:"trace,omitempty"`
	// Problem says why there is no value, or what is wrong with the output.
	Problem string `json:"problem,omitempty"`
	// Command is what the contender ran.
	Command string `json:"command,omitempty"`
}

// WithRuns returns f with the median, minimum and maximum of runs.
func (f Figure) WithRuns(runs []float64) Figure {
	f.Value, f.Runs = Median(runs), len(runs)
	if f.Runs > 0 {
		f.Min, f.Max = slices.Min(runs), slices.Max(runs)
	}
	return f
}

// Median returns the median of x, or 0 if x is empty.
func Median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// AppendFigures appends figures to the file at path as lines of JSON. docs/plots/draw draws plots from them, and
// TestFigures writes tables. It does nothing if path is empty.
func AppendFigures(path string, figures ...Figure) (err error) {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, figure := range figures {
		if err := json.NewEncoder(f).Encode(figure); err != nil {
			return err
		}
	}
	return nil
}
