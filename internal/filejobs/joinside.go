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

// joinSide is one side of a join. If the columns are known before it is read, the workers
// convert each record to the fields of the output as they read it. With JSON lines, the
// columns are known only after the first record, so records are kept unchanged; so they are
// if whole records are written.
type joinSide struct {
	job        *job
	right      bool
	kind       mergejoin.Kind
	matchEmpty bool            // missing keys match each other
	fields     []records.Field // the fields of --on

	columns      []string // nil if they have no names
	keys         []int    // the indexes of fields in columns; negative ones count from the end
	firstOther   int      // the output column of the first column that is not in --on
	copiesFields bool     // fields without quotes can be copied to the output
	splitsAll    bool     // all fields of a record are determined while it is read
	lateColumns  bool     // the columns are known only after reading; records are kept unchanged
	rows         *output.Rows
	workers      []joinWorker
}

// joinWorker holds the state of one goroutine that reads records of a side.
type joinWorker struct {
	widest  int // maximum number of fields of a record
	picked  [][]byte
	key     []byte
	buf     []byte
	split   *records.Splitter
	missing []byte // the fields of a row without a partner on this side, set on first use
}

func (e *joinEngine) newSide(j *job, names []string) (*joinSide, error) {
	s := &joinSide{job: j, kind: e.Kind, matchEmpty: e.MatchEmpty, workers: make([]joinWorker, j.Threads)}
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

func (s *joinSide) hasNoNames() bool {
	return s.job.From.Format != records.JSONL && !s.job.From.HasHeader()
}

// isJSON reports whether the side is JSON lines, whose columns are known only after reading.
func (s *joinSide) isJSON() bool { return s.job.From.Format == records.JSONL }

func (s *joinSide) findColumns() {
	s.columns = s.job.Inputs.Columns
	if s.columns == nil && !s.hasNoNames() {
		s.columns = []string{}
	}
	if !s.isJSON() {
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

// keyNames returns the names of the fields of --on, or nil if they have none.
func (s *joinSide) keyNames() (names []string) {
	for _, k := range s.keys {
		if k < 0 || k >= len(s.columns) {
			return nil
		}
		names = append(names, s.columns[k])
	}
	return names
}

// otherNames returns the names of the columns that are not in --on.
func (s *joinSide) otherNames() (names []string) {
	for i, c := range s.columns {
		if !slices.Contains(s.keys, i) {
			names = append(names, c)
		}
	}
	return names
}

// otherCount returns the number of columns that are not in --on.
func (s *joinSide) otherCount() int {
	if s.columns != nil {
		return len(s.otherNames())
	}
	widest := 0
	for i := range s.workers {
		widest = max(widest, s.workers[i].widest)
	}
	return max(widest-len(s.keys), 0)
}

// readWith reads the side. Several goroutines call use.
func (s *joinSide) readWith(ctx context.Context, use func(*records.Block) error) error {
	cfg := records.Config{Fields: s.fields}
	if s.splitsAll {
		cfg = records.Config{AllFields: true}
	}
	return s.job.readAs(ctx, cfg, use)
}

// find returns the key of the current record, which is empty if it must match nothing. It adds
// the fields of --on to w.picked. It returns false for a record that lacks one of them.
func (s *joinSide) find(w *joinWorker, b *records.Block) (key []byte, ok bool) {
	from := len(w.picked)
	if !s.splitsAll {
		w.picked = append(w.picked, b.Fields...)
	} else {
		w.widest = max(w.widest, len(b.Fields))
		if w.picked, ok = s.pickFields(w.picked, b); !ok {
			return nil, false
		}
	}
	picked := w.picked[from:]
	switch {
	case !s.matchEmpty && slices.ContainsFunc(picked, func(f []byte) bool { return len(f) == 0 }):
		return nil, true
	case len(picked) == 1:
		return picked[0], true
	}
	start := len(w.key)
	w.key = appendKey(w.key, picked, nil)
	return w.key[start:], true
}

// pickFields appends the fields of --on of a record whose fields are all known.
func (s *joinSide) pickFields(dst [][]byte, b *records.Block) (_ [][]byte, ok bool) {
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

// storedForm returns the bytes to store for a record. picked contains its fields of --on. If
// s.splitsAll, fields contains all of its fields.
func (s *joinSide) storedForm(w *joinWorker, record []byte, picked, fields [][]byte) []byte {
	switch {
	case !s.kind.Pairs() && s.right:
		return nil // only the key is needed
	case !s.kind.Pairs() || s.lateColumns:
		return record
	}
	var ok bool
	if w.buf, ok = s.copy(w.buf[:0], record, picked); ok {
		return w.buf
	}
	if !s.splitsAll {
		fields = nil
	}
	w.buf = s.encode(w.buf[:0], w, fields, record)
	return w.buf
}

// joinStore stores the records of a side: in a table while they fit, otherwise in a sorter, to
// which the records of the table are moved.
type joinStore struct {
	side   *joinSide
	sorter *extsort.Sorter

	mu    sync.RWMutex    // write-locked to change table, read-locked to add to it
	table *hashjoin.Table // nil if all records go to the sorter
}

func (s *joinStore) read(ctx context.Context, j *job, memory int64) (err error) {
	if s.sorter, err = j.newSorter(ctx, memory*7/16, true); err != nil {
		return err
	}
	j.reading = s.side.job
	if err := s.side.readWith(ctx, s.use); err != nil {
		return err
	}
	records := s.sorter.Stats().Records
	if s.table != nil {
		records = s.table.Added().Records
	}
	if n := s.side.job.Tally.Records; n != records {
		return fmt.Errorf("%d records were read, but %d were kept for the join", n, records)
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
		stored := s.side.storedForm(w, b.Record, w.picked, b.Fields)
		if s.table != nil {
			fits, err := s.table.Add(b.Worker, key, stored)
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
		if err := sorting.Add(key, stored); err != nil {
			return tooLong(b, err)
		}
	}
	return nil
}

// sortInstead moves the records of the table to the sorter, when no other goroutine is adding
// records. The caller must hold the read lock, and holds it again afterwards.
func (s *joinStore) sortInstead() (err error) {
	s.mu.RUnlock()
	defer s.mu.RLock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil // another goroutine has done it
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
