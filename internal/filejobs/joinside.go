package filejobs

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashjoin"
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

func (s *joinSide) nameless() bool {
	return s.job.From.Format != records.JSONL && !s.job.From.HasHeader()
}

// json reports whether the columns are known once the side was read.
func (s *joinSide) json() bool { return s.job.From.Format == records.JSONL }

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
	picked := w.picked[from:]
	switch {
	case !s.empty && slices.ContainsFunc(picked, func(f []byte) bool { return len(f) == 0 }):
		return nil, true
	case len(picked) == 1:
		return picked[0], true
	}
	at := len(w.key)
	w.key = appendKey(w.key, picked, nil)
	return w.key[at:], true
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

// joinStore is where the records of a side are kept: in a table as long as they fit,
// else in a sorter, which then takes what the table has.
type joinStore struct {
	side   *joinSide
	sorter *extsort.Sorter

	mu    sync.RWMutex    // for who changes table; for reading for who adds to it
	table *hashjoin.Table // nil: all goes to the sorter
}

func (s *joinStore) read(ctx context.Context, j *job, memory int64) (err error) {
	if s.sorter, err = j.newSorter(ctx, memory*7/16, true); err != nil {
		return err
	}
	j.reading = s.side.job
	if err := s.side.readWith(ctx, s.use); err != nil {
		return err
	}
	kept := s.sorter.Stats().Records
	if s.table != nil {
		kept = s.table.Added().Records
	}
	if n := s.side.job.Tally.Records; n != kept {
		return fmt.Errorf("%d records were read, but %d were kept to be joined", n, kept)
	}
	return nil
}

func (s *joinStore) use(b *records.Block) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var sorting *extsort.Writer
	defer func() {
		if sorting != nil {
			err = joinErrors(err, sorting.Close())
		}
	}()
	w := &s.side.workers[b.Worker]
	for b.Next() {
		w.picked, w.key = w.picked[:0], w.key[:0]
		key, ok := s.side.find(w, b)
		if !ok {
			continue
		}
		kept := s.side.keep(w, b.Record, w.picked, b.Fields)
		if s.table != nil {
			fits, err := s.table.Add(b.Worker, key, kept)
			if err != nil {
				return err
			}
			if fits {
				continue
			}
			if err := s.sortInstead(); err != nil {
				return tooLong(b, err)
			}
		}
		if sorting == nil {
			if sorting, err = s.sorter.Writer(); err != nil {
				return err
			}
		}
		if err := sorting.Add(key, kept); err != nil {
			return tooLong(b, err)
		}
	}
	return nil
}

// sortInstead moves what the table has to the sorter, once no other goroutine adds to
// it. The caller has the lock for reading, before and after.
func (s *joinStore) sortInstead() (err error) {
	s.mu.RUnlock()
	defer s.mu.RLock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil // another has done it
	}
	w, err := s.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
	if err := s.table.TakeOut(w.Add); err != nil {
		return err
	}
	err = s.table.Close()
	s.table = nil
	return err
}
