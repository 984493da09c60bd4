package filejobs

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashjoin"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// joinSide is one side of a join. Workers convert each record to output fields as they read it.
// Two kinds of records are stored unchanged: JSON lines, because their columns are known only
// after the first record, and the records of semi and anti joins, which write whole records.
type joinSide struct {
	job        *Job
	isRight    bool
	kind       mergejoin.Kind
	matchEmpty bool            // missing and empty keys match each other
	fields     []records.Field // the key fields, named by --on

	parts            []records.Field // key fields that are parts of columns; they follow all other columns
	columns          []string        // column names, nil if the columns are unnamed
	keys             []int           // indexes of fields in columns; a negative index counts from the end
	firstOtherColumn int             // output index of this side's first column that is not a key column
	canCopyFields    bool            // fields without quotes can be copied to the output
	splitsAllFields  bool            // reading splits a record into all of its fields
	lateColumns      bool            // the columns are known only after a record was read, so records are stored unchanged
	rows             *output.Rows
	workers          []joinWorker
}

// joinWorker holds the buffers of one goroutine that reads a side's records.
type joinWorker struct {
	maxFields     int // maximum number of fields in a record so far
	keyFields     [][]byte
	key           []byte
	buf           []byte
	splitter      *records.Splitter
	missingFields []byte   // set by joinSide.missingFields
	_             [64]byte // keeps adjacent workers in different cache lines
}

func (e *joinEngine) newSide(j *Job, names []fieldName) (*joinSide, error) {
	s := &joinSide{job: j, kind: e.Kind, matchEmpty: e.MatchEmpty, workers: make([]joinWorker, j.Threads)}
	for _, name := range names {
		f, err := name.resolve(j.From, j.Inputs.Columns)
		if err != nil {
			return nil, j.Inputs.FieldError("on", name.text, j.From, err)
		}
		f.Optional = true
		// Count from the start if the number of columns is known: keyNames finds no name for a negative
		// index, and output as JSON lines needs names.
		if f.Index < 0 {
			f.Index += len(j.Inputs.Columns)
		}
		s.fields, s.keys = append(s.fields, f), append(s.keys, f.Index)
		if f.Part != nil {
			s.parts = append(s.parts, f)
		}
	}
	// The parts follow all other columns. Give them the last indexes, -n to -1, and shift the other
	// negative indexes by n.
	for i, part := 0, 0; i < len(s.fields); i++ {
		switch n := len(s.parts); {
		case s.fields[i].Part != nil:
			s.keys[i] = part - n
			part++
		case s.keys[i] < 0:
			s.keys[i] -= n
		}
	}
	return s, nil
}

func (s *joinSide) hasUnnamedColumns() bool {
	return s.job.From.Format != records.JSONL && s.job.Inputs.Columns == nil && !s.job.From.HasHeader()
}

func (s *joinSide) isJSON() bool { return s.job.From.Format == records.JSONL }

func (s *joinSide) findColumns() {
	s.columns = s.job.Inputs.Columns
	if s.isJSON() {
		s.columns = records.Members(s.job.Tally.FirstRecord)
		for i, f := range s.fields {
			s.keys[i] = slices.Index(s.columns, f.Name)
			if s.keys[i] < 0 && f.Part == nil {
				s.keys[i] = len(s.columns)
				s.columns = append(s.columns, f.Name)
			}
		}
	}
	if s.columns == nil {
		return
	}
	s.columns = slices.Clip(s.columns)
	for i, f := range s.fields {
		if f.Part != nil {
			s.keys[i] = len(s.columns)
			s.columns = append(s.columns, f.Part.Text)
		}
	}
}

// allFields returns a splitter that returns a record's fields in the order of s.columns.
func (s *joinSide) allFields() *records.Splitter {
	return allFields(s.job.From, s.columns[:max(len(s.columns)-len(s.parts), 0)], s.parts...)
}

// keyNames returns the names of the key columns, or nil if they are unnamed.
func (s *joinSide) keyNames() (names []string) {
	for _, k := range s.keys {
		if k < 0 || k >= len(s.columns) {
			return nil
		}
		names = append(names, s.columns[k])
	}
	return names
}

// otherNames returns the names of the columns that are not key columns.
func (s *joinSide) otherNames() (names []string) {
	for i, c := range s.columns {
		if !slices.Contains(s.keys, i) {
			names = append(names, c)
		}
	}
	return names
}

func (s *joinSide) otherCount() int {
	if s.columns != nil {
		return len(s.otherNames())
	}
	maxFields, count := 0, 0
	for i := range s.workers {
		maxFields = max(maxFields, s.workers[i].maxFields)
	}
	for i := range maxFields {
		if !s.isKey(i, maxFields) { // --on can name a field twice
			count++
		}
	}
	return count
}

// isKey reports whether --on names field i of a record with n fields.
func (s *joinSide) isKey(i, n int) bool {
	return slices.Contains(s.keys, i) || slices.Contains(s.keys, i-n)
}

// readWith reads the side's records and calls handle from several goroutines.
func (s *joinSide) readWith(ctx context.Context, handle func(*records.Block) error) error {
	cfg := records.Config{Fields: s.fields}
	if s.splitsAllFields {
		cfg = records.Config{AllFields: true, Fields: s.parts}
	}
	return s.job.readConfig(ctx, cfg, handle)
}

// appendKeyOf returns the current record's key, which is empty if the record must not match. It
// appends the record's key fields to w.keyFields. It returns false if the record lacks one of them.
func (s *joinSide) appendKeyOf(w *joinWorker, b *records.Block) (key []byte, ok bool) {
	from := len(w.keyFields)
	if !s.splitsAllFields {
		w.keyFields = append(w.keyFields, b.Fields...)
	} else {
		w.maxFields = max(w.maxFields, len(b.Fields))
		w.keyFields, ok = s.selectKeyFields(w.keyFields, b)
		if !ok {
			return nil, false
		}
	}
	keyFields := w.keyFields[from:]
	switch {
	case !s.matchEmpty && slices.ContainsFunc(keyFields, func(f []byte) bool { return len(f) == 0 }):
		return nil, true
	case len(keyFields) == 1:
		return keyFields[0], true
	}
	start := len(w.key)
	w.key = AppendKey(w.key, keyFields, nil)
	return w.key[start:], true
}

// selectKeyFields appends the current record's key fields. b.Fields must contain
// all fields in the record.
func (s *joinSide) selectKeyFields(dst [][]byte, b *records.Block) (_ [][]byte, ok bool) {
	from, n := len(dst), len(b.Fields)
	for _, k := range s.keys {
		if k < -n || k >= n {
			if k >= 0 {
				k++
			}
			b.MarkBad(fmt.Errorf("field %d is missing: the record has %s", k, textfmt.Plural(int64(n), "field")))
			return dst[:from], false
		}
		dst = append(dst, b.Fields[(k+n)%n])
	}
	return dst, true
}

// storedForm returns the bytes to store for a record. keyFields holds the record's key fields. If
// s.splitsAllFields is set, fields must hold all of the record's fields.
func (s *joinSide) storedForm(w *joinWorker, record []byte, keyFields, fields [][]byte) []byte {
	switch {
	case !s.kind.Pairs() && s.isRight:
		return nil // a semi or anti join needs only the keys of the right side
	case !s.kind.Pairs() || s.lateColumns:
		return record
	}
	var ok bool
	w.buf, ok = s.appendCopied(w.buf[:0], record, keyFields)
	if ok {
		return w.buf
	}
	if !s.splitsAllFields {
		fields = nil
	}
	w.buf = s.appendEncoded(w.buf[:0], w, fields, record)
	return w.buf
}

// joinStore stores the records of a side. It may start with a table. When the records no longer
// fit there, it moves them to the sorter.
type joinStore struct {
	side   *joinSide
	sorter *extsort.Sorter

	mu    sync.RWMutex    // write-locked to replace table, read-locked to add to it
	table *hashjoin.Table // nil if the sorter receives all records
}

func (s *joinStore) read(ctx context.Context, j *Job, memory int64) (err error) {
	s.sorter, err = j.NewSorter(ctx, memory*7/16, true)
	if err != nil {
		return err
	}
	j.current = s.side.job
	if err := s.side.readWith(ctx, s.addBlock); err != nil {
		return err
	}
	records := s.sorter.Stats().Records
	if s.table != nil {
		records = s.table.Added().Records
	}
	if n := s.side.job.Tally.Records; n != records {
		return fmt.Errorf("%d records were read, but %d were stored for the join", n, records)
	}
	return nil
}

func (s *joinStore) addBlock(b *records.Block) (err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var sortWriter *extsort.Writer
	defer func() {
		if sortWriter != nil {
			err = JoinErrors(err, sortWriter.Close())
		}
	}()
	w := &s.side.workers[b.Worker]
	for b.Next() {
		w.keyFields, w.key = w.keyFields[:0], w.key[:0]
		key, ok := s.side.appendKeyOf(w, b)
		if !ok {
			continue
		}
		stored := s.side.storedForm(w, b.Record, w.keyFields, b.Fields)
		if s.table != nil {
			fits, err := s.table.Add(b.Worker, key, stored)
			if err != nil {
				return err
			}
			if fits {
				continue
			}
			if err := s.switchToSorter(); err != nil {
				return ReportTooLong(b, err)
			}
		}
		if sortWriter == nil {
			sortWriter, err = s.sorter.Writer()
			if err != nil {
				return err
			}
		}
		if err := sortWriter.Add(key, stored); err != nil {
			return ReportTooLong(b, err)
		}
	}
	return nil
}

// switchToSorter moves the table's records to the sorter. The caller must hold the read lock;
// switchToSorter releases it to lock out other goroutines, and acquires it again before it returns.
func (s *joinStore) switchToSorter() (err error) {
	s.mu.RUnlock()
	defer s.mu.RLock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		return nil // another goroutine has already moved the records
	}
	w, err := s.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = JoinErrors(err, w.Close()) }()
	if err := s.table.MoveTo(w.Add); err != nil {
		return err
	}
	err = s.table.Close()
	s.table = nil
	return err
}
