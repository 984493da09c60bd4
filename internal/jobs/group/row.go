package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// rowBuilder builds the rows of groups, one group after another.
type rowBuilder struct {
	engine *engine
	rows   *output.Rows
	isJSON bool
	plain  *output.Plain // writes rows quickly if they need no quotes; nil if the format or an aggregate may need them

	started   bool
	complete  bool // addAggregated was called for the group
	records   uint64
	key       []byte
	words     []uint64
	distinct  []uint64
	texts     []storedText // one for each spec
	lists     []*spool     // one for each spec, nil unless the spec is a list
	modes     []modeFinder
	numbers   []*numberColumn
	quantiles []quantile     // one for each spec
	partWords []uint64       // the state that addAggregated is adding
	written   hashagg.Totals // totals of the written rows, for verify
	rowBytes  int64          // total size of the rows in bytes

	values  []output.Value // the stored values in a record, by column
	row     []output.Value
	textBuf []byte
	outBuf  []byte
}

// storedText is the result of one of the aggregates first, last and any, or of min or max of text.
type storedText struct {
	output.Value
	isSet bool // whether a record has supplied the text
}

func newRowBuilder(g *engine, j *filejobs.Job) (*rowBuilder, error) {
	rows, err := output.NewRows(j.To, g.outputNames)
	if err != nil {
		return nil, fmt.Errorf("--to-format %s: %w", j.To.Format, err)
	}
	r := &rowBuilder{
		engine: g, rows: rows, isJSON: j.To.Format == records.JSONL,
		words: make([]uint64, g.program.Words), distinct: make([]uint64, len(g.distinctColumns)),
		texts: make([]storedText, len(g.specs)), lists: make([]*spool, len(g.specs)),
		modes: make([]modeFinder, len(g.modeColumns)), quantiles: make([]quantile, len(g.specs)),
		partWords: make([]uint64, g.program.Words),
		values:    make([]output.Value, g.valueCount), row: make([]output.Value, g.keyCount+len(g.specs)),
	}
	n := 0
	for i, s := range g.specs {
		r.texts[i].Missing = true
		if s.Func == aggregate.List {
			n++
		}
	}
	for i, s := range g.specs {
		if s.Func == aggregate.List {
			r.lists[i] = &spool{temp: j.TempSet, limit: int(j.Memory) / 32 / n}
		}
	}
	for range g.quantileColumns {
		// Two of the six memory shares that the workers have released are for numbers, and four are
		// for sorters.
		c, err := newNumberColumn(r, 2*g.shareSize/int64(len(g.quantileColumns)))
		if err != nil {
			return nil, err
		}
		r.numbers = append(r.numbers, c)
	}
	// Text can need quotes; numbers, true and false never do.
	mayBeText := func(s aggregate.Spec) bool { return s.StoresValues() || s.NeedsSorting() }
	if g.top.N == 0 && g.order == nil && !slices.ContainsFunc(g.specs, mayBeText) {
		r.plain = rows.Plain()
	}
	return r, nil
}

func (r *rowBuilder) close() error {
	var errs []error
	for _, c := range r.numbers {
		errs = append(errs, c.close())
	}
	for _, s := range r.lists {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

var errPart = errors.New("temporary data is damaged: a part of a group cannot be decoded")

// add adds rec, a part of the group's data (see aggregatedPart). sameKey reports whether the
// previous part has the same sort key.
func (r *rowBuilder) add(key, rec []byte, sameKey bool) error {
	r.started = true
	kind, rec := rec[0], rec[1:]
	switch kind {
	case storedPart:
		return r.addValues(rec)
	case aggregatedPart:
		return r.addAggregated(key, rec)
	case modePart:
		return r.addModeValue(rec, sameKey)
	case numbersPart, wideNumberPart:
		i, rec, ok := cutColumn(rec, len(r.numbers))
		switch {
		case !ok:
			return errPart
		case kind == wideNumberPart:
			return r.numbers[i].addWide(rec)
		}
		return r.numbers[i].addFloats(rec)
	}
	for i := range r.distinct {
		n, l := binary.Uvarint(rec)
		if l <= 0 {
			return errPart
		}
		r.distinct[i], rec = n, rec[l:]
	}
	return nil
}

// addAggregated adds a group's state from a worker's hash table. A group can have several such
// parts, because each worker has a table and may empty it several times.
func (r *rowBuilder) addAggregated(key, rec []byte) error {
	records, l := binary.Uvarint(rec)
	for i := range r.partWords {
		if l <= 0 {
			return errPart
		}
		rec = rec[l:]
		r.partWords[i], l = binary.Uvarint(rec)
	}
	if l <= 0 {
		return errPart
	}
	rec = rec[l:]
	if r.engine.sortsParts() {
		key = rec
	} else if len(rec) > 0 {
		return errPart
	}
	if r.complete {
		r.records += records
		r.engine.program.Merge(r.words, r.partWords)
		return nil
	}
	r.key = append(r.key[:0], key...)
	r.records, r.complete = records, true
	copy(r.words, r.partWords)
	for i := range r.modes {
		r.modes[i] = modeFinder{mode: output.Value{Text: r.modes[i].mode.Text[:0], Missing: true}}
	}
	return nil
}

func (r *rowBuilder) addValues(rec []byte) error {
	for _, col := range r.engine.storedColumns {
		n, l := binary.Uvarint(rec)
		size := (max(n, 1) - 1) / 2
		if l <= 0 || size > uint64(len(rec)-l) {
			return errPart
		}
		rec = rec[l:]
		r.values[col] = output.Value{Text: rec[:size], Missing: n == 0, JSON: n > 0 && n%2 == 0}
		rec = rec[size:]
	}
	for i := range r.engine.specs {
		s := &r.engine.specs[i]
		if !s.StoresValues() {
			continue
		}
		v, t := r.values[r.engine.specColumns[i].First], &r.texts[i]
		switch s.Func {
		case aggregate.List:
			if err := r.addToList(i, v, t.isSet); err != nil {
				return err
			}
			t.isSet = true
		case aggregate.First:
			if !t.isSet {
				t.replace(v)
			}
		case aggregate.Last:
			t.replace(v)
		case aggregate.Any:
			if len(v.Text) > 0 && !t.isSet {
				t.replace(v)
			}
		case aggregate.Min:
			if len(v.Text) > 0 && (!t.isSet || bytes.Compare(v.Text, t.Text) < 0) {
				t.replace(v)
			}
		case aggregate.Max:
			if len(v.Text) > 0 && (!t.isSet || bytes.Compare(v.Text, t.Text) > 0) {
				t.replace(v)
			}
		}
	}
	return nil
}

func (t *storedText) replace(v output.Value) {
	v.Text = append(t.Text[:0], v.Text...)
	t.Value, t.isSet = v, true
}

// addToList adds a value to list i. The list is stored in its output form, without the quotes
// around a CSV field.
func (r *rowBuilder) addToList(i int, v output.Value, isSet bool) (err error) {
	s := r.lists[i]
	switch {
	case !r.isJSON:
		if isSet {
			s.buf = append(s.buf, ';')
		}
		s.buf = textfmt.AppendInner(s.buf, v.Text, ';')
	case !isSet:
		s.buf = append(s.buf, '[')
	default:
		s.buf = append(s.buf, ',')
	}
	if r.isJSON {
		s.buf, err = output.AppendValue(s.buf, &v)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", r.engine.specs[i].Text, filejobs.QuoteShort(v.Text), err)
		}
	}
	return s.moveToDisk()
}
