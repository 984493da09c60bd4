package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// run is the result of one run of a contender.
type run struct {
	Job     string  `json:"job"`
	Input   string  `json:"input"`
	Bytes   int64   `json:"input_bytes"`
	How     string  `json:"how"`
	Round   int     `json:"round"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`
	VmHWM   int64   `json:"vmhwm_bytes"`
	Files   int64   `json:"files_written"`
	Checked bool    `json:"output_checked"`
	Problem string  `json:"problem,omitempty"`
	trace   [][2]float64
}

// runs are the runs of a contender on an input.
type runs struct {
	c     contender
	all   []run
	skip  string // the reason why it does not run, or no longer
	wrong bool   // partd failed, or some output was wrong
}

// measure runs the contenders of a job in turns.
func (f *flags) measure(ctx context.Context, in *input, j job, peers map[string]string) ([]*runs, error) {
	var all []*runs
	for _, c := range j.runs {
		missing, ok := peers[c.peer]
		if !ok {
			continue
		}
		if missing == "" && c.unfit != nil {
			missing = c.unfit(in)
		}
		all = append(all, &runs{c: c, skip: missing})
	}
	for round := range f.rounds {
		for i := range all {
			rs := all[(i+round)%len(all)] // a different contender starts each round
			if rs.skip != "" {
				continue
			}
			r, err := f.runOnce(ctx, in, j, rs, round)
			if err != nil {
				return nil, err
			}
			rs.all = append(rs.all, r)
			if f.json {
				if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// runOnce runs a contender once. The failure of a peer is a result, not an error.
func (f *flags) runOnce(ctx context.Context, in *input, j job, rs *runs, round int) (r run, err error) {
	c := rs.c
	r = run{Job: j.name, Input: in.name, Bytes: in.bytes, How: c.label, Round: round + 1}
	out, err := os.MkdirTemp(f.dir, "out-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.remove(ctx, out, r.Files)) }()
	u, err := start(ctx, f.timeout, c.command(f, in, out))
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.Seconds, r.CPU, r.VmHWM, r.trace = u.seconds, u.cpu, u.memory, u.trace
	if err == nil && c.ownTime {
		r.Seconds, err = strconv.ParseFloat(strings.TrimSpace(u.out), 64)
	}
	r.Files = countFiles(out)
	if err != nil {
		r.Problem, rs.skip = err.Error(), "failed"
		rs.wrong = c.peer == "partd"
		return r, nil
	}
	if round == 0 || f.checkAll {
		if err := j.check(c, in, out); err != nil {
			r.Problem, rs.skip, rs.wrong = err.Error(), "wrong", true
			return r, nil
		}
		r.Checked = true
	}
	if c.peer != "partd" && r.Seconds > f.slow.Seconds() {
		rs.skip = "slow"
	}
	return r, nil
}

// remove removes an output and waits, because creating files is slow for a while after
// many files were removed.
func (f *flags) remove(ctx context.Context, out string, files int64) error {
	err := os.RemoveAll(out)
	unix.Sync()
	select {
	case <-ctx.Done():
	case <-time.After(min(f.pause*time.Duration(1+files/10_000), max(f.pause, 30*time.Second))):
	}
	return err
}

func countFiles(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	return n
}

// wrongOutputs returns an error for wrong outputs and for failures of partd.
func wrongOutputs(in *input, j job, all []*runs) (err error) {
	for _, rs := range all {
		if rs.wrong {
			err = errors.Join(err, fmt.Errorf("%s, %s, %s: %s", j.name, in.name, rs.c.label, rs.all[len(rs.all)-1].Problem))
		}
	}
	return err
}
