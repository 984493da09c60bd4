package filejobs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

// groupRow puts together the row of one group after the other.
type groupRow struct {
	g    *groupEngine
	rows *output.Rows
	json bool

	begun    bool
	complete bool // the aggregated part is there
	records  uint64
	key      []byte
	words    []uint64
	distinct []uint64
	texts    []keptText // of specs
	lists    []*spool   // of specs, nil for those that are no list

	values []output.Value // of a record, by place
	row    []output.Value
	text   []byte
	out    []byte
}

// keptText is the value of first, last, min or max of bytes.
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
	if r.out, err = rows.AppendHeader(nil); err != nil {
		return nil, err
	}
	if _, err := j.sink.Write(r.out); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *groupRow) close() error {
	var errs []error
	for _, s := range r.lists {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

var errPart = errors.New("a part of a group is not what was written: the temporary data are damaged")

// add adds what was sorted under the key of the group.
func (r *groupRow) add(rec []byte) error {
	r.begun = true
	kind, rec := rec[0], rec[1:]
	switch kind {
	case keptValues:
		return r.addValues(rec)
	case aggregated:
		n, l := binary.Uvarint(rec)
		if l <= 0 || n > uint64(len(rec)-l) || r.complete {
			return errPart
		}
		r.key = append(r.key[:0], rec[l:l+int(n)]...)
		rec = rec[l+int(n):]
		if r.records, l = binary.Uvarint(rec); l <= 0 || len(rec)-l != 8*len(r.words) {
			return errPart
		}
		for i := range r.words {
			r.words[i] = binary.LittleEndian.Uint64(rec[l+8*i:])
		}
		r.complete = true
		return nil
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

// addValues adds the kept values of a record.
func (r *groupRow) addValues(rec []byte) error {
	for _, col := range r.g.kept {
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
		v, t := r.values[r.g.places[i]], &r.texts[i]
		switch s.Func {
		case aggregate.List:
			if err := r.addToList(i, v, t.set); err != nil {
				return err
			}
			t.set = true
		case aggregate.First:
			if !t.set {
				t.keep(v)
			}
		case aggregate.Last:
			t.keep(v)
		case aggregate.Min:
			if len(v.Text) > 0 && (!t.set || bytes.Compare(v.Text, t.Text) < 0) {
				t.keep(v)
			}
		case aggregate.Max:
			if len(v.Text) > 0 && (!t.set || bytes.Compare(v.Text, t.Text) > 0) {
				t.keep(v)
			}
		}
	}
	return nil
}

func (t *keptText) keep(v output.Value) {
	v.Text = append(t.Text[:0], v.Text...)
	t.Value, t.set = v, true
}

// addToList adds a value to a list, which is kept as it is written, but for the
// quotes around a field of CSV.
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
	return s.move()
}

// write writes the row, and begins the next.
func (r *groupRow) write(w *sink) error {
	if !r.complete {
		return fmt.Errorf("%w: it lacks the counts", errPart)
	}
	err := r.fill()
	if err == nil {
		err = r.writeFields(w)
	}
	if err != nil {
		return fmt.Errorf("the row of group %s: %w", quoteShort(r.row[0].Text), err)
	}
	r.begun, r.complete = false, false
	clear(r.distinct)
	for i := range r.texts {
		r.texts[i].set, r.texts[i].Missing = false, true
	}
	for _, s := range r.lists {
		if s != nil {
			s.reset()
		}
	}
	return nil
}

// fill makes the fields of the row, all but lists that are too long.
func (r *groupRow) fill() (err error) {
	g := r.g
	g.job.valuesOf(r.row[:0], r.key, g.keys)
	r.text = r.text[:0]
	for i := range g.specs {
		s := &g.specs[i]
		v := &r.row[g.keys+i]
		switch {
		case s.Func == aggregate.List:
			if r.json && r.lists[i].size == 0 {
				r.lists[i].buf = append(r.lists[i].buf, ']')
			}
			*v = output.Value{Text: r.lists[i].buf, JSON: true}
		case s.Kept():
			if *v = r.texts[i].Value; v.Missing {
				v.Text = nil
			}
		default:
			from := len(r.text)
			if s.Func == aggregate.Distinct {
				r.text = strconv.AppendUint(r.text, r.distinct[slices.Index(g.distinct, g.places[i])], 10)
			} else if r.text, err = g.program.Append(r.text, i, r.words, r.records); err != nil {
				return err
			}
			text := r.text[from:len(r.text):len(r.text)]
			*v = output.Value{Text: text, Missing: len(text) == 0, JSON: true}
		}
	}
	return nil
}
