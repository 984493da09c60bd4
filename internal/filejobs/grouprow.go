package filejobs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// groupRow builds the rows of groups, one group after another.
type groupRow struct {
	g     *groupEngine
	rows  *output.Rows
	json  bool
	plain *output.Plain // for rows without special bytes, if the format allows it

	started   bool
	complete  bool // the aggregated part was added
	records   uint64
	key       []byte
	words     []uint64
	distinct  []uint64
	texts     []keptText // one for each spec
	lists     []*spool   // one for each spec, nil unless it is a list
	modes     []countedColumn
	numbers   []*numberColumn
	quantiles []quantile // one for each spec
	other     []uint64   // words of another part of the group
	tally     groupTally
	rowBytes  int64 // bytes of all rows

	values []output.Value // the kept values of a record, by column
	row    []output.Value
	text   []byte
	out    []byte
}

// keptText is the result of first, last, any, or min or max of bytes.
type keptText struct {
	output.Value
	set bool // a record was seen
}

func newGroupRow(g *groupEngine, j *job) (*groupRow, error) {
	rows, err := output.NewRows(j.To, g.names)
	if err != nil {
		return nil, fmt.Errorf("--to-format %s: %w", j.To.Format, err)
	}
	r := &groupRow{
		g: g, rows: rows, json: j.To.Format == records.JSONL,
		words: make([]uint64, g.program.Words), distinct: make([]uint64, len(g.distinct)),
		texts: make([]keptText, len(g.specs)), lists: make([]*spool, len(g.specs)),
		modes: make([]countedColumn, len(g.modes)), quantiles: make([]quantile, len(g.specs)),
		other:  make([]uint64, g.program.Words),
		values: make([]output.Value, g.values), row: make([]output.Value, g.keys+len(g.specs)),
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
			r.lists[i] = &spool{temp: j.temp, limit: int(j.Memory) / 32 / n}
		}
	}
	for range g.quantiled {
		// A third of the memory for quantiles and of the closed tables; the sorters get the rest.
		c, err := newNumberColumn(r, 2*g.share/int64(len(g.quantiled)))
		if err != nil {
			return nil, err
		}
		r.numbers = append(r.numbers, c)
	}
	// Without such aggregates, rows have only numbers, true and false after their keys.
	special := func(s aggregate.Spec) bool { return s.Kept() || s.Ranked() }
	if g.top.N == 0 && !slices.ContainsFunc(g.specs, special) {
		r.plain = rows.Plain()
	}
	return r, nil
}

func (r *groupRow) close() error {
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

var errPart = errors.New("a part of a group differs from what was written: the temporary data is damaged")

// add adds a part that was sorted under the key of the group. sameKey means that the previous
// part has the same sort key.
func (r *groupRow) add(key, rec []byte, sameKey bool) error {
	r.started = true
	kind, rec := rec[0], rec[1:]
	switch kind {
	case keptValues:
		return r.addValues(rec)
	case aggregated:
		return r.addAggregated(key, rec)
	case countedValue:
		return r.addCounted(rec, sameKey)
	case someNumbers, wideNumber:
		i, rec, ok := columnOf(rec, len(r.numbers))
		switch {
		case !ok:
			return errPart
		case kind == wideNumber:
			return r.numbers[i].addWide(rec)
		}
		return r.numbers[i].addPiece(rec)
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

// addAggregated adds the part of a group that comes from a table.
func (r *groupRow) addAggregated(key, rec []byte) error {
	records, l := binary.Uvarint(rec)
	for i := range r.other {
		if l <= 0 {
			return errPart
		}
		rec = rec[l:]
		r.other[i], l = binary.Uvarint(rec)
	}
	if l <= 0 {
		return errPart
	}
	if rec = rec[l:]; r.g.sortsParts() {
		key = rec
	} else if len(rec) > 0 {
		return errPart
	}
	if r.complete {
		r.records += records
		r.g.program.Merge(r.words, r.other)
		return nil
	}
	r.key = append(r.key[:0], key...)
	r.records, r.complete = records, true
	copy(r.words, r.other)
	for i := range r.modes {
		r.modes[i] = countedColumn{mode: output.Value{Text: r.modes[i].mode.Text[:0], Missing: true}}
	}
	return nil
}

func (r *groupRow) addValues(rec []byte) error {
	for _, col := range r.g.storedColumns {
		n, l := binary.Uvarint(rec)
		size := (max(n, 1) - 1) / 2
		if l <= 0 || size > uint64(len(rec)-l) {
			return errPart
		}
		rec = rec[l:]
		r.values[col] = output.Value{Text: rec[:size], Missing: n == 0, JSON: n > 0 && n%2 == 0}
		rec = rec[size:]
	}
	for i := range r.g.specs {
		s := &r.g.specs[i]
		if !s.Kept() {
			continue
		}
		v, t := r.values[r.g.places[i].First], &r.texts[i]
		switch s.Func {
		case aggregate.List:
			if err := r.addToList(i, v, t.set); err != nil {
				return err
			}
			t.set = true
		case aggregate.First:
			if !t.set {
				t.replace(v)
			}
		case aggregate.Last:
			t.replace(v)
		case aggregate.Any:
			if len(v.Text) > 0 && !t.set {
				t.replace(v)
			}
		case aggregate.Min:
			if len(v.Text) > 0 && (!t.set || bytes.Compare(v.Text, t.Text) < 0) {
				t.replace(v)
			}
		case aggregate.Max:
			if len(v.Text) > 0 && (!t.set || bytes.Compare(v.Text, t.Text) > 0) {
				t.replace(v)
			}
		}
	}
	return nil
}

func (t *keptText) replace(v output.Value) {
	v.Text = append(t.Text[:0], v.Text...)
	t.Value, t.set = v, true
}

// addToList adds a value to a list, which is stored as it will be written, except for the
// quotes around a CSV field.
func (r *groupRow) addToList(i int, v output.Value, more bool) (err error) {
	s := r.lists[i]
	switch {
	case !r.json:
		if more {
			s.buf = append(s.buf, ';')
		}
		s.buf = output.AppendCSV(s.buf, v.Text, ';')
	case !more:
		s.buf = append(s.buf, '[')
	default:
		s.buf = append(s.buf, ',')
	}
	if r.json {
		if s.buf, err = output.AppendValue(s.buf, &v); err != nil {
			return fmt.Errorf("%s: %s: %w", r.g.specs[i].Text, quoteShort(v.Text), err)
		}
	}
	return s.moveToDisk()
}
