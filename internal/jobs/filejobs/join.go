package filejobs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/base/where"
	"github.com/go-partd/partd/internal/engine/hashjoin"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// JoinOptions configures [Join]. The job's files are the left side.
type JoinOptions struct {
	On         string // fields, separated by commas: F, or F=G if the right side calls it G
	Kind       mergejoin.Kind
	MatchEmpty bool // missing and empty keys match each other
	Right      string
	RightFrom  records.Layout // layout of the right side
}

// joinEngine runs [Join]. If one side fits in memory, a hash table holds its records, and the
// records of the other side are looked up in the table (see [joinHash]). Otherwise both sides are
// sorted by key and merged.
type joinEngine struct {
	JoinOptions
	left, right *joinSide
	output      *joinOutput
}

// Join returns an engine that joins the records of two files by fields.
func Join(o JoinOptions) Engine { return &joinEngine{JoinOptions: o} }

func (e *joinEngine) Plan(j *Job) error {
	right := &Job{Options: j.Options}
	right.Files, right.From = []string{e.Right}, e.RightFrom
	var err error
	right.Inputs, err = OpenInputs(j.Ctx, j.In, right.Files, right.From, j.Memory.MaxRecord())
	if err != nil {
		return err
	}
	if j.To.Format == records.JSONL {
		right.Inputs.numberColumns(right.From)
	}
	for _, side := range [][2]*Job{{j, right}, {right, j}} {
		if other := side[1]; other.From.HasHeader() && len(other.Inputs.Columns) > 1 {
			side[0].Inputs.otherSep = string(other.From.Separator())
		}
	}
	leftColumns, rightColumns, err := e.splitOn(j.Inputs.Columns, right.Inputs.Columns)
	if err != nil {
		return err
	}
	e.left, err = e.newSide(j, leftColumns)
	if err != nil {
		return err
	}
	e.right, err = e.newSide(right, rightColumns)
	if err != nil {
		return err
	}
	e.right.isRight = true
	j.Notes = right.Inputs.Warnings(right.From)
	if e.Kind.Pairs() && (e.left.hasUnnamedColumns() || e.right.hasUnnamedColumns()) {
		j.To.NoHeader = true
	}
	for _, s := range []*joinSide{e.left, e.right} {
		// The columns of JSON lines are known only after the first record was read.
		s.lateColumns = e.left.isJSON() || e.right.isJSON()
		from := s.job.From
		hasQuotes := from.Format == records.CSV && bytes.IndexByte(s.job.Inputs.firstBytes, '"') >= 0 // later records probably also contain quotes
		s.canCopyFields = (from.Format == records.CSV || from.Format == records.TSV) && from.Format == j.To.Format && from.Sep == j.To.Sep && s.parts == nil
		s.splitsAllFields = e.Kind.Pairs() && !s.isJSON() && (s.hasUnnamedColumns() || s.parts != nil || !s.lateColumns && (!s.canCopyFields || hasQuotes))
	}
	e.output = &joinOutput{job: j, left: e.left, right: e.right}
	return nil
}

// Selects implements [Selecter]. In a semi or anti join, the condition and the columns apply to the left side's records,
// which are the rows. In other joins, joinOutput applies them to the rows.
func (e *joinEngine) Selects(o *Options) (where, columns string) {
	if e.Kind.Pairs() {
		return "", ""
	}
	return o.Where, o.Columns
}

// splitOn splits the value of --on. A column name can contain an equals sign.
func (e *joinEngine) splitOn(left, right []string) (leftNames, rightNames []fieldName, err error) {
	contains := slices.Contains[[]string]
	if contains(left, e.On) && contains(right, e.On) {
		return []fieldName{{text: e.On}}, []fieldName{{text: e.On}}, nil
	}
	for rest, more := e.On, true; more; {
		var l, r fieldName
		l, r, rest, more, err = cutPair(rest, left, right)
		if err == nil {
			err = refuseAliases([]fieldName{l, r})
		}
		if err == nil && l.text == "" {
			err = fmt.Errorf("the list of fields %q contains an empty name", e.On)
		}
		if err != nil {
			return nil, nil, OptionErrorf("--on: %w", err)
		}
		leftNames, rightNames = append(leftNames, l), append(rightNames, r)
	}
	return leftNames, rightNames, nil
}

// cutPair cuts F or F=G and the comma after it from the beginning of list.
func cutPair(list string, left, right []string) (l, r fieldName, rest string, more bool, err error) {
	l, rest, err = cutName(list, nil)
	if err != nil {
		return l, r, "", false, err
	}
	if before, _, ok := strings.Cut(rest, `="`); ok && l.text == "" && !strings.Contains(before, ",") {
		l.text, rest = before, rest[len(before):] // F="G"
	}
	if before, after, ok := strings.Cut(rest, "="); ok && l.text == "" && !strings.Contains(before, ",") {
		if part, _, _ := where.ParsePart(after); part != nil {
			l.text, rest = before, rest[len(before):]
		}
	}
	if other, ok := strings.CutPrefix(rest, "="); ok && l.text != "" {
		r, rest, err = cutName(other, nil)
		if err == nil {
			rest, more, err = r.finish(rest)
		}
		return l, r, rest, more, err
	}
	rest, more, err = l.finish(rest)
	if l.isQuoted {
		return l, l, rest, more, err
	}
	r = l
	inBoth := func(name string) bool { return slices.Contains(left, name) && slices.Contains(right, name) }
	if before, after, hasEquals := strings.Cut(l.text, "="); hasEquals && !inBoth(l.text) {
		fullName := l.text
		l.text, r.text = before, after
		for i := range fullName { // use the first = that separates two column names
			if fullName[i] == '=' && slices.Contains(left, fullName[:i]) && slices.Contains(right, fullName[i+1:]) {
				l.text, r.text = fullName[:i], fullName[i+1:]
				break
			}
		}
	}
	return l, r, rest, more, err
}

func (e *joinEngine) Run(ctx context.Context, j *Job) error {
	right := e.right
	right.job.cancel = j.cancel
	if size := j.Inputs.Size; size >= 0 && right.job.Inputs.Size >= 0 {
		j.Bar.Count(size+right.job.Inputs.Size, func() int64 { return j.Inputs.BytesRead.Load() + right.job.Inputs.BytesRead.Load() })
	}
	if !e.left.lateColumns && !e.right.lateColumns {
		if err := e.begin(); err != nil {
			return err
		}
	}
	memory := j.engineMemory()
	tableMemory := min(memory*7/8, memory-int64(j.Threads)*joinBuffer)
	var stores [2]*joinStore // the side that is read first, then the other side
	stores[0] = &joinStore{side: e.left}
	if small := e.smallerSide(tableMemory); small != nil {
		stores[0] = &joinStore{side: small, table: hashjoin.New(tableMemory, j.Threads)}
		j.CloseLater(stores[0].table.Close)
	}
	if err := stores[0].read(ctx, j, memory); err != nil {
		return err
	}
	stores[1] = &joinStore{side: e.otherSide(stores[0].side)}
	if stores[0].table != nil {
		return e.runHash(ctx, j, stores[0])
	}
	if err := stores[1].read(ctx, j, memory); err != nil {
		return err
	}
	return e.runMerge(ctx, j, stores, memory)
}

func (e *joinEngine) otherSide(s *joinSide) *joinSide {
	if s == e.left {
		return e.right
	}
	return e.left
}

// smallerSide returns the side with the smaller file, or nil if that file is too large for a table.
// The size of a pipe is unknown, so a pipe is chosen only if the other side is also a pipe or
// is too large.
func (e *joinEngine) smallerSide(tableMemory int64) *joinSide {
	l, r := e.left.job.Inputs.Size, e.right.job.Inputs.Size
	if !e.Kind.Pairs() && r > 0 {
		r /= 4 // the table stores only keys
	}
	small, size := e.right, r
	if l >= 0 && (r < 0 || l < r) {
		small, size = e.left, l
	}
	switch {
	case size <= tableMemory:
		return small
	case l < 0 || r < 0:
		return e.otherSide(small)
	}
	return nil
}

func (e *joinEngine) runMerge(ctx context.Context, j *Job, stores [2]*joinStore, memory int64) error {
	j.Bar.Wait("joining", nil)
	if e.left.lateColumns || e.right.lateColumns {
		if err := e.begin(); err != nil {
			return err
		}
	}
	if stores[0].side == e.right {
		stores[0], stores[1] = stores[1], stores[0]
	}
	left, right := stores[0].sorter, stores[1].sorter
	w := e.output.newWriter(ctx, 0)
	stats, err := mergejoin.Join(ctx, left, right,
		mergejoin.Options{Kind: e.Kind, MatchEmpty: e.MatchEmpty, Memory: memory / 8, Temp: j.TempSet}, w.write)
	if err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := e.output.verifyRows(stats.Rows, w); err != nil {
		return err
	}
	a, b := left.Stats(), right.Stats()
	e.report(j, stats, [2]ledger.Sum128{a.Sum, b.Sum}, Line{"engine", "engine", "sort; both files were sorted", "sort"},
		a.Runs+b.Runs, a.Written+b.Written+stats.Spilled)
	return nil
}

// begin determines the columns of both sides and writes the header.
func (e *joinEngine) begin() error {
	for _, s := range []*joinSide{e.left, e.right} {
		if err := e.nameColumns(e.left.job, s); err != nil {
			return err
		}
	}
	return e.output.begin()
}

// nameColumns determines a side's columns and their names in the output. The output starts with
// the columns of --on, under the left side's names. The left side's other columns follow, and
// then the right side's. A right column whose name is taken gets the suffix _right.
func (e *joinEngine) nameColumns(j *Job, s *joinSide) (err error) {
	s.findColumns()
	if !e.Kind.Pairs() {
		return nil
	}
	names := e.left.keyNames()
	if names == nil {
		names = s.keyNames()
	}
	names = append(names, e.left.otherNames()...)
	s.firstOtherColumn = len(s.keys)
	if s == e.right {
		s.firstOtherColumn += e.left.otherCount()
		for _, name := range s.otherNames() {
			for slices.Contains(names, name) {
				name += "_right"
			}
			names = append(names, name)
		}
	}
	if e.left.hasUnnamedColumns() || e.right.hasUnnamedColumns() {
		names = nil
	} else if names == nil {
		names = []string{} // both sides are empty
	}
	s.rows, err = output.NewRows(j.To, names)
	if err != nil {
		return OptionErrorf("--to-format %s: %w", j.To.Format, err)
	}
	e.output.names = names
	return nil
}

// report adds the summary lines and the right side's counts to j, the job of the left side.
func (e *joinEngine) report(j *Job, stats mergejoin.Stats, sums [2]ledger.Sum128, engine Line, runs, written int64) {
	right := e.right.job
	l, r := j.Tally.Records, right.Tally.Records
	j.Tally.Add(&right.Tally)
	j.Inputs.Files = append(j.Inputs.Files, right.Inputs.Files...)
	j.Inputs.BytesRead.Add(right.Inputs.BytesRead.Load())
	if j.Inputs.Size >= 0 {
		j.Inputs.Size += right.Inputs.Size
		if right.Inputs.Size < 0 {
			j.Inputs.Size = -1
		}
	}
	j.Report("rows", "rows", stats.Rows-e.output.dropped)
	j.Report("left_records", "left", l)
	j.Report("right_records", "right", r)
	j.Report("left_alone", "", stats.LeftUnmatched)
	j.Report("right_alone", "", stats.RightUnmatched)
	j.Report("proof", "proof", fmt.Sprintf("%s and %s records in, the same numbers joined; their hashes add up to %v and %v, in and out",
		humanize.Comma(l), humanize.Comma(r), sums[0], sums[1]))
	j.Tally.Dropped += e.output.dropped
	j.Lines = append(j.Lines, engine)
	j.Report("runs", "", runs)
	j.Report("temporary_bytes", "temporary", written)
}
