package group

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/output"
)

func (g *engine) write(ctx context.Context) error {
	j := g.job
	r, err := newRowBuilder(g, j)
	if err != nil {
		return err
	}
	header, err := r.rows.AppendHeader(nil)
	if err == nil {
		_, err = j.Write(header)
	}
	if err == nil {
		err = g.writeRows(ctx, r)
	}
	err = filejobs.JoinErrors(err, r.close())
	if err != nil {
		return err
	}
	if err := g.verify(r.written); err != nil {
		return err
	}
	if g.top.N > 0 {
		if err := g.top.write(j, r.written.Groups); err != nil {
			return err
		}
	}
	counts := make([]string, len(g.workers))
	perWorker := make([]int64, len(g.workers))
	for i, w := range g.workers {
		counts[i], perWorker[i] = humanize.Comma(w.records), w.records
	}
	j.Report("groups", "groups", r.written.Groups)
	j.Report("records_by_worker", "", perWorker)
	j.Report("proof", "proof", fmt.Sprintf("the group counts add up to the number of records: %s (%s)", humanize.Comma(r.written.Records), strings.Join(counts, " + ")))
	j.Report("spills", "", g.sorter.Stats().Runs)
	return nil
}

// writeRows builds and writes the rows. It uses several goroutines, unless a row can be large
// or the rows must be sorted.
func (g *engine) writeRows(ctx context.Context, r *rowBuilder) error {
	j := g.job
	if !g.sortsValues() && len(g.quantileColumns) == 0 && g.top.N == 0 && j.Threads > 1 {
		return g.writeParallel(ctx, r)
	}
	var out io.Writer = j
	if g.top.N > 0 {
		if err := g.top.open(ctx, j, r, g.shareSize); err != nil {
			return err
		}
		out = &g.top
	}
	for b, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		if err := r.addBlock(b, out); err != nil {
			return err
		}
	}
	return r.end(out)
}

// addBlock adds a block's records to their groups and writes the row of each group that is
// complete.
func (r *rowBuilder) addBlock(b *extsort.Block, out io.Writer) error {
	for i := range b.Len() {
		rec, sameKey := b.Record(i), b.SameKey(i)
		startsGroup := !sameKey
		if r.engine.sortsParts() {
			startsGroup = startsGroup && rec[0] == aggregatedPart
		}
		if startsGroup {
			if err := r.end(out); err != nil {
				return err
			}
		}
		if err := r.add(b.Key(i), rec, sameKey); err != nil {
			return err
		}
	}
	return nil
}

// end writes the row of the current group, if any, and prepares for the next group.
func (r *rowBuilder) end(w io.Writer) error {
	if !r.started {
		return nil
	}
	if !r.complete {
		return fmt.Errorf("%w: a group's counts are missing", errPart)
	}
	r.written.Add(hashagg.Totals{Groups: 1, Records: int64(r.records), KeySum: r.records * r.engine.numbers.Hash(r.key)})
	if r.plain != nil {
		if done, err := r.writePlain(w); done || err != nil {
			return err
		}
	}
	// Set the row's key fields first, so that the error below can name the group.
	r.engine.job.AppendKeyValues(r.row[:0], r.key, r.engine.keyCount)
	err := r.findQuantiles()
	if err == nil {
		err = r.fill()
	}
	if err == nil {
		err = r.writeRow(w)
	}
	if err != nil {
		return fmt.Errorf("the row of group %s: %w", filejobs.QuoteShort(r.row[0].Text), err)
	}
	r.started, r.complete = false, false
	clear(r.distinct)
	for i := range r.texts {
		r.texts[i].isSet, r.texts[i].Missing = false, true
	}
	for _, s := range r.lists {
		if s != nil {
			s.reset()
		}
	}
	return nil
}

// fill sets the fields in the row, except lists that do not fit in memory.
func (r *rowBuilder) fill() error {
	g := r.engine
	r.textBuf = r.textBuf[:0]
	for i := range g.specs {
		s := &g.specs[i]
		v := &r.row[g.keyCount+i]
		switch {
		case s.Func == aggregate.List:
			if r.isJSON && r.lists[i].size == 0 {
				r.lists[i].buf = append(r.lists[i].buf, ']')
			}
			*v = output.Value{Text: r.lists[i].buf, JSON: true}
		case s.StoresValues():
			*v = r.texts[i].Value
			if v.Missing {
				v.Text = nil
			}
		case s.Func == aggregate.Mode:
			mode := &r.modes[slices.Index(g.modeColumns, g.specColumns[i].First)]
			if err := r.checkCount(i, mode.valueCount); err != nil {
				return err
			}
			*v = mode.mode
		default:
			from := len(r.textBuf)
			var err error
			r.textBuf, err = r.appendResult(r.textBuf, i)
			if err != nil {
				return err
			}
			text := r.textBuf[from:len(r.textBuf):len(r.textBuf)]
			*v = output.Value{Text: text, Missing: len(text) == 0, JSON: true}
		}
	}
	return nil
}

// appendResult appends the result of spec i, which is a number or boolean. It appends
// nothing if there is no result.
func (r *rowBuilder) appendResult(dst []byte, i int) ([]byte, error) {
	g := r.engine
	q := &r.quantiles[i]
	switch {
	case g.specs[i].Func == aggregate.Distinct:
		return strconv.AppendUint(dst, r.distinct[slices.Index(g.distinctColumns, g.specColumns[i].First)], 10), nil
	case g.specs[i].Func != aggregate.Quantile:
		return g.program.Append(dst, i, r.words, r.records)
	case q.exists:
		return g.program.AppendQuantile(dst, i, q.rank, q.number, q.nextNumber)
	}
	return dst, nil
}

// writeRow writes the row. Lists that do not fit in memory are written in pieces.
func (r *rowBuilder) writeRow(w io.Writer) (err error) {
	r.outBuf = r.outBuf[:0]
	for i := range r.engine.outputNames {
		r.outBuf, err = r.rows.AppendStart(r.outBuf, i)
		if err != nil {
			return err
		}
		column := i // index in r.row
		if r.engine.order != nil {
			column = r.engine.order[i]
		}
		if spec := column - r.engine.keyCount; spec >= 0 && r.lists[spec] != nil && r.lists[spec].size > 0 {
			err = r.streamList(w, i, r.lists[spec])
		} else {
			r.outBuf, err = r.rows.AppendField(r.outBuf, i, &r.row[column])
			if err == nil && len(r.engine.outputNames) == 1 && len(r.row[column].Text) == 0 {
				r.outBuf, err = r.rows.AppendEmptyRow(r.outBuf)
			}
		}
		if err != nil {
			return err
		}
	}
	r.outBuf = r.rows.AppendEnd(r.outBuf)
	r.rowBytes += int64(len(r.outBuf))
	_, err = w.Write(r.outBuf)
	return err
}

// streamList writes r.outBuf, then a list that is partly on disk.
func (r *rowBuilder) streamList(w io.Writer, i int, s *spool) (err error) {
	if r.isJSON {
		s.buf = append(s.buf, ']')
	}
	r.outBuf = r.rows.AppendQuote(r.outBuf)
	err = s.pieces(func(p []byte) error {
		r.outBuf, err = r.rows.AppendPiece(r.outBuf, i, p)
		if err != nil {
			return err
		}
		r.rowBytes += int64(len(r.outBuf))
		_, err = w.Write(r.outBuf)
		r.outBuf = r.outBuf[:0]
		return err
	})
	r.outBuf = r.rows.AppendQuote(r.outBuf)
	return err
}

// writePlain writes the row and prepares for the next group. If the row needs quotes or an
// aggregate fails, it does nothing and returns false.
func (r *rowBuilder) writePlain(w io.Writer) (done bool, err error) {
	g := r.engine
	out, ok := filejobs.AppendPlainKey(r.outBuf[:0], r.key, g.keyCount == 1 && !g.job.IsTyped(), r.plain)
	if !ok {
		return false, nil
	}
	for i := range g.specs {
		out, err = r.appendResult(append(out, r.plain.Sep), i)
		if err != nil {
			return false, nil // the caller builds the row again and names the group in its error
		}
	}
	out = append(out, '\n')
	r.outBuf = out
	r.rowBytes += int64(len(out))
	r.started, r.complete = false, false
	clear(r.distinct)
	_, err = w.Write(out)
	return true, err
}
