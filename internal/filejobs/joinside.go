package filejobs

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/mergejoin"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
)

// joinSide is one side of a join. Where the columns are known before it is read, a
// record is kept as the fields of the output are written: so each is taken apart once,
// by several workers. Where a side is JSON lines, whose columns are known once the
// first record was read, records are kept as they are; and so is one of which all is
// written.
type joinSide struct {
	job    *job
	right  bool
	how    mergejoin.How
	empty  bool            // missing keys match each other
	fields []records.Field // of --on

	columns []string // nil where they have no names
	keys    []int    // where the fields are among the columns; from the end if negative
	first   int      // the column of the output that is the first of the others
	copies  bool     // the output writes fields without quotes as they are
	all     bool     // all fields of a record are found as it is read
	late    bool     // records are kept as they are, until the columns are known
	rows    *output.Rows
	workers []joinWorker
}

// joinWorker is what one goroutine takes the records of a side apart with.
type joinWorker struct {
	widest int // fields of a record at most
	picked [][]byte
	key    []byte
	buf    []byte
	split  *records.Splitter
	none   []byte // the others of a side without a partner, once they were asked for
}

func (e *joinEngine) newSide(j *job, names []string) (*joinSide, error) {
	s := &joinSide{job: j, how: e.How, empty: e.MatchEmpty, workers: make([]joinWorker, j.Threads)}
	for _, name := range names {
		f, err := j.From.Resolve(name, j.Inputs.Columns)
		if err != nil {
			return nil, j.fieldError("on", name, err)
		}
		f.Optional = true
		s.fields, s.keys = append(s.fields, f), append(s.keys, f.Index)
	}
	return s, nil
}

// nameless reports whether the columns have no names.
func (s *joinSide) nameless() bool {
	return s.job.From.Format != records.JSONL && !s.job.From.HasHeader()
}

// json reports whether the columns are known once the side was read.
func (s *joinSide) json() bool { return s.job.From.Format == records.JSONL }

// findColumns finds the columns.
func (s *joinSide) findColumns() {
	s.columns = s.job.Inputs.Columns
	if s.columns == nil && !s.nameless() {
		s.columns = []string{}
	}
	if !s.json() {
		return
	}
	s.columns = records.Members(s.job.Tally.First)
	for i, f := range s.fields {
		if s.keys[i] = slices.Index(s.columns, f.Name); s.keys[i] < 0 {
			s.keys[i] = len(s.columns)
			s.columns = append(s.columns, f.Name)
		}
	}
}

// splitter returns what finds all fields of a record.
func (s *joinSide) splitter() *records.Splitter {
	if !s.json() {
		return records.NewFieldSplitter(s.job.From, s.columns)
	}
	var members []records.Field
	for _, name := range s.columns {
		members = append(members, records.Field{Name: name, Optional: true})
	}
	return records.NewMemberSplitter(members)
}

// keyNames are the names of the fields of --on, nil where they have none.
func (s *joinSide) keyNames() (names []string) {
	for _, k := range s.keys {
		if k < 0 || k >= len(s.columns) {
			return nil
		}
		names = append(names, s.columns[k])
	}
	return names
}

// otherNames are the names of the others.
func (s *joinSide) otherNames() (names []string) {
	for i, c := range s.columns {
		if !slices.Contains(s.keys, i) {
			names = append(names, c)
		}
	}
	return names
}

// others is how many columns there are beside those of --on.
func (s *joinSide) others() int {
	if s.columns != nil {
		return len(s.otherNames())
	}
	widest := 0
	for i := range s.workers {
		widest = max(widest, s.workers[i].widest)
	}
	return max(widest-len(s.keys), 0)
}

// readWith reads the side. Use is called by several goroutines.
func (s *joinSide) readWith(ctx context.Context, use func(*records.Block) error) error {
	cfg := records.Config{Fields: s.fields}
	if s.all {
		cfg = records.Config{AllFields: true}
	}
	return s.job.readAs(ctx, cfg, use)
}

// find finds the key of the record at hand, which is empty if it is to match nothing,
// and adds the fields of --on to those of the worker. It returns false for a record
// that lacks one.
func (s *joinSide) find(w *joinWorker, b *records.Block) (key []byte, ok bool) {
	from := len(w.picked)
	if !s.all {
		w.picked = append(w.picked, b.Fields...)
	} else {
		w.widest = max(w.widest, len(b.Fields))
		if w.picked, ok = s.pick(w.picked, b); !ok {
			return nil, false
		}
	}
	key, w.key = joinKeyOf(w.key, w.picked[from:], s.empty)
	return key, true
}

// pick picks the fields of --on out of all of a record.
func (s *joinSide) pick(dst [][]byte, b *records.Block) (_ [][]byte, ok bool) {
	from, n := len(dst), len(b.Fields)
	for _, k := range s.keys {
		if k < -n || k >= n {
			if k >= 0 {
				k++
			}
			b.Bad(fmt.Errorf("there is no field %d: the record has %s", k, textfmt.Plural(int64(n), "field")))
			return dst[:from], false
		}
		dst = append(dst, b.Fields[(k+n)%n])
	}
	return dst, true
}

// keep returns what is kept of a record, with its fields of --on, and all fields where
// they were found.
func (s *joinSide) keep(w *joinWorker, record []byte, picked, all [][]byte) []byte {
	switch {
	case !s.how.Pairs() && s.right:
		return nil // only the key is asked for
	case !s.how.Pairs() || s.late:
		return record
	}
	var ok bool
	if w.buf, ok = s.copy(w.buf[:0], record, picked); ok {
		return w.buf
	}
	if !s.all {
		all = nil
	}
	w.buf = s.encode(w.buf[:0], w, all, record)
	return w.buf
}

// joinKeyOf returns the key of the fields of --on, which is empty if it is to match
// nothing, and the buffer that it may be in.
func joinKeyOf(buf []byte, fields [][]byte, matchEmpty bool) (key, grown []byte) {
	if !matchEmpty && slices.ContainsFunc(fields, func(f []byte) bool { return len(f) == 0 }) {
		return nil, buf
	}
	if len(fields) == 1 {
		return fields[0], buf
	}
	from := len(buf)
	buf = appendKey(buf, fields, nil)
	return buf[from:], buf
}
