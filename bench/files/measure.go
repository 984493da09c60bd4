package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-partd/partd/bench/internal/program"
)

type run struct {
	Bytes   int64
	Round   int
	Seconds float64
	CPU     float64
	VmHWM   int64
	Files   int64
	Problem string
	trace   [][2]float64
}

// contenderRuns holds the runs of a contender on an input.
type contenderRuns struct {
	c       contender
	runs    []run
	skip    string // why the contender does not run, or no longer runs; otherwise ""
	isWrong bool   // an output was wrong, or the contender is partd and failed
}

// measure runs the contenders of a job, alternating between them. unusable maps the selected peers to the reason why
// they cannot run, or to "".
func (f *flags) measure(ctx context.Context, src *input, j job, unusable map[string]string) ([]*contenderRuns, error) {
	var contenders []*contenderRuns
	for _, c := range j.contenders {
		reason, ok := unusable[c.peer]
		if !ok {
			continue
		}
		if reason == "" && c.unusableReason != nil {
			reason = c.unusableReason(src)
		}
		contenders = append(contenders, &contenderRuns{c: c, skip: reason})
	}
	for round := range f.rounds {
		for i := range contenders {
			rs := contenders[(i+round)%len(contenders)] // a different contender starts each round
			if rs.skip != "" {
				continue
			}
			r, err := f.runOnce(ctx, src, j, rs, round)
			if err != nil {
				return nil, err
			}
			rs.runs = append(rs.runs, r)
		}
	}
	return contenders, nil
}

// runOnce runs a contender once. The failure of a peer is a result, not an error.
func (f *flags) runOnce(ctx context.Context, src *input, j job, rs *contenderRuns, round int) (r run, err error) {
	c := rs.c
	r = run{Bytes: src.bytes, Round: round + 1}
	outDir, err := os.MkdirTemp(f.dir, "out-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.remove(ctx, outDir, r.Files)) }()
	if err := src.readAll(); err != nil {
		return r, err
	}
	u, err := program.RunMeasured(ctx, f.timeout, 0, c.command(f, src, outDir))
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.Seconds, r.CPU, r.VmHWM, r.trace = u.Seconds, u.CPU, u.Memory, u.Trace
	if err == nil && c.timesItself {
		r.Seconds, err = strconv.ParseFloat(strings.TrimSpace(u.Stdout), 64)
	}
	r.Files = countFiles(outDir)
	if err != nil {
		r.Problem = err.Error()
		rs.skip = "failed"
		rs.isWrong = c.peer == "partd"
		return r, nil
	}
	if round == 0 || f.checkAll {
		if err := j.check(c, src, outDir); err != nil {
			r.Problem = err.Error()
			rs.skip = "wrong"
			rs.isWrong = true
			return r, nil
		}
	}
	if c.peer != "partd" && r.Seconds > f.slow.Seconds() {
		rs.skip = "slow"
	}
	return r, nil
}

// readAll reads all files of the input. It brings them into the page cache again if the previous contender, or the
// computation of an answer, used so much memory that the system dropped them.
func (src *input) readAll() error {
	paths := []string{src.path}
	if len(src.tables) > 0 {
		paths = nil
		for _, t := range src.tables {
			paths = append(paths, t.path)
		}
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// remove removes an output. It then waits, because creating files is slow for some time after many
// files were removed.
func (f *flags) remove(ctx context.Context, outDir string, files int64) error {
	err := os.RemoveAll(outDir)
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
func wrongOutputs(src *input, j job, results []*contenderRuns) (err error) {
	for _, rs := range results {
		if rs.isWrong {
			err = errors.Join(err, fmt.Errorf("%s, %s, %s: %s", j.name, src.name, rs.c.label, rs.runs[len(rs.runs)-1].Problem))
		}
	}
	return err
}
