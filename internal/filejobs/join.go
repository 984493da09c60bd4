package filejobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/mergejoin"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// JoinOptions are those of [Join]. The files of the job are the left side.
type JoinOptions struct {
	On         string // F, or F=G where the right side's field has another name; several between commas
	How        mergejoin.How
	MatchEmpty bool // missing and empty keys match each other
	Right      string
	RightFrom  records.Layout
}

// joinEngine is one run of [Join]. Both sides are sorted by their keys, and walked
// side by side.
type joinEngine struct {
	JoinOptions
	left, right *joinSide
}

// Join returns what joins the records of two files by fields.
func Join(o JoinOptions) Engine { return &joinEngine{JoinOptions: o} }

func (e *joinEngine) plan(j *job) error {
	if e.Right == Stdin && j.Files[0] == Stdin {
		return optionErrorf("standard input is given twice")
	}
	right := &job{Options: j.Options}
	right.Files, right.From = []string{e.Right}, e.RightFrom
	var err error
	if right.Inputs, err = OpenInputs(j.ctx, j.In, right.Files, right.From, j.Memory.MaxRecord()); err != nil {
		return err
	}
	lefts, rights, err := e.names(j.Inputs.Columns, right.Inputs.Columns)
	if err != nil {
		return err
	}
	if e.left, err = newJoinSide(j, lefts); err != nil {
		return err
	}
	if e.right, err = newJoinSide(right, rights); err != nil {
		return err
	}
	if j.Inputs.Columns == nil && j.From.HasHeader() && right.Inputs.Columns != nil {
		j.To.NoHeader = false // the other side has one
	}
	if e.How.Pairs() && (e.left.nameless() || e.right.nameless()) {
		j.To.NoHeader = true
		if j.To.Format == records.JSONL {
			return optionErrorf("--to-format jsonl: jsonl needs names of columns, and there is no header")
		}
	}
	return nil
}

// names takes the list of the fields apart. An equals sign may be part of a name.
func (e *joinEngine) names(left, right []string) (lefts, rights []string, err error) {
	has := slices.Contains[[]string]
	if has(left, e.On) && has(right, e.On) {
		return []string{e.On}, []string{e.On}, nil
	}
	names, err := splitNames(e.On, nil)
	if err != nil {
		return nil, nil, optionErrorf("--on: %w", err)
	}
	for _, name := range names {
		l, r := name, name
		if before, after, found := strings.Cut(name, "="); found && !(has(left, name) && has(right, name)) {
			l, r = before, after
			for i := range name { // the first place that makes two names
				if name[i] == '=' && has(left, name[:i]) && has(right, name[i+1:]) {
					l, r = name[:i], name[i+1:]
					break
				}
			}
		}
		lefts, rights = append(lefts, l), append(rights, r)
	}
	return lefts, rights, nil
}

func (e *joinEngine) run(ctx context.Context, j *job) error {
	left, right := e.left, e.right
	right.job.cancel = j.cancel
	if size := j.Inputs.Size; size >= 0 && right.job.Inputs.Size >= 0 {
		j.Bar.Count(size+right.job.Inputs.Size, func() int64 { return j.Inputs.Read.Load() + right.job.Inputs.Read.Load() })
	}
	memory := j.engineMemory()
	var sorters [2]*extsort.Sorter
	for i, side := range []*joinSide{left, right} {
		var err error
		if sorters[i], err = j.newSorter(ctx, memory*7/16, true); err != nil {
			return err
		}
		if !side.json() {
			if err := e.nameColumns(j, side); err != nil {
				return err
			}
		}
		j.reading = side.job
		if err := side.read(ctx, sorters[i], &e.JoinOptions, side == right); err != nil {
			return err
		}
		if side.json() {
			if err := e.nameColumns(j, side); err != nil {
				return err
			}
		}
	}
	j.Bar.Wait("joining", nil)
	w, err := newJoinWriter(j, left, right, e.How)
	if err != nil {
		return err
	}
	stats, err := mergejoin.Join(ctx, sorters[0], sorters[1],
		mergejoin.Options{How: e.How, MatchEmpty: e.MatchEmpty, Memory: memory / 8, Temp: j.temp}, w.write)
	if err != nil {
		return err
	}
	if err := w.flushAt(0); err != nil {
		return err
	}
	if w.rows != stats.Rows {
		return fmt.Errorf("%d rows were to be written, but %d were", stats.Rows, w.rows)
	}
	e.report(j, stats, sorters)
	return nil
}

// nameColumns finds the columns of a side, and the names that they have in the
// output: those of --on as the left side names them, its others, and those of the
// right side, with _right where another has the name.
func (e *joinEngine) nameColumns(j *job, s *joinSide) (err error) {
	s.findColumns()
	if !e.How.Pairs() {
		return nil
	}
	names := e.left.keyNames()
	if names == nil {
		names = s.keyNames()
	}
	names = append(names, e.left.otherNames()...)
	s.first = len(s.keys)
	if s == e.right {
		s.first += e.left.others()
		for _, name := range s.otherNames() {
			for slices.Contains(names, name) {
				name += "_right"
			}
			names = append(names, name)
		}
	}
	if e.left.nameless() || e.right.nameless() {
		names = nil
	} else if names == nil {
		names = []string{} // both sides are empty
	}
	if s.rows, err = output.NewRows(j.To, names); err != nil {
		return optionErrorf("--to-format %s: %w", j.To.Format, err)
	}
	return nil
}

// report adds what the join did, and both sides' accounts to one.
func (e *joinEngine) report(j *job, stats mergejoin.Stats, sorters [2]*extsort.Sorter) {
	right := e.right.job
	l, r := j.Tally.Records, right.Tally.Records
	j.Tally.Add(&right.Tally)
	j.Inputs.Files = append(j.Inputs.Files, right.Inputs.Files...)
	j.Inputs.Read.Add(right.Inputs.Read.Load())
	if j.Inputs.Size >= 0 {
		if j.Inputs.Size += right.Inputs.Size; right.Inputs.Size < 0 {
			j.Inputs.Size = -1
		}
	}
	a, b := sorters[0].Stats(), sorters[1].Stats()
	j.report("rows", "rows", stats.Rows)
	j.report("left_records", "left", l)
	j.report("right_records", "right", r)
	j.report("left_alone", "", stats.LeftAlone)
	j.report("right_alone", "", stats.RightOnly)
	j.report("proof", "proof", fmt.Sprintf("%s and %s records in, as many joined; the sums of their hashes are %v and %v, in and out",
		humanize.Comma(l), humanize.Comma(r), a.Sum, b.Sum))
	j.report("runs", "", a.Runs+b.Runs)
	j.report("temporary_bytes", "temporary", a.Written+b.Written+stats.Spilled)
}

var errShortRow = errors.New("a record of the temporary data is not whole")
