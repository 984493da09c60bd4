package filejobs

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
)

// joinSide is one side of a join. Where its columns are known before it is read, a
// record goes to the sorter as the fields of the output are written: so each is taken
// apart once, by several workers. One of JSON lines goes there as it is, as its
// columns are known once the first was read; and so does one of which all is written.
type joinSide struct {
	job    *job
	fields []records.Field // of --on

	columns []string // nil where they have no names
	keys    []int    // where the fields are among the columns; from the end if negative
	first   int      // the column of the output that is the first of the others
	widest  []int    // fields of a record at most, of each worker

	rows  *output.Rows
	split *records.Splitter // JSON lines
	buf   []byte
	none  []byte // that missing returns
}

func newJoinSide(j *job, names []string) (*joinSide, error) {
	s := &joinSide{job: j, widest: make([]int, j.Threads)}
	for _, name := range names {
		f, err := j.From.Resolve(name, j.Inputs.Columns)
		if err != nil {
			return nil, j.fieldError("on", name, err)
		}
		f.Optional = true
		s.fields = append(s.fields, f)
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
	for _, f := range s.fields {
		s.keys = append(s.keys, f.Index)
	}
	if !s.json() {
		return
	}
	s.columns = records.Members(s.job.Tally.First)
	var members []records.Field
	for i, f := range s.fields {
		if s.keys[i] = slices.Index(s.columns, f.Name); s.keys[i] < 0 {
			s.keys[i] = len(s.columns)
			s.columns = append(s.columns, f.Name)
		}
	}
	for _, name := range s.columns {
		members = append(members, records.Field{Name: name, Optional: true})
	}
	s.split = records.NewMemberSplitter(members)
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
	return max(slices.Max(s.widest)-len(s.keys), 0)
}

// read reads the side into a sorter: what a join writes of it.
func (s *joinSide) read(ctx context.Context, sorter *extsort.Sorter, o *JoinOptions, isRight bool) error {
	encodes := o.How.Pairs() && !s.json()
	withKey := !isRight || o.How.RightAlone()
	picked := make([][][]byte, s.job.Threads)
	cfg := records.Config{Fields: s.fields}
	if encodes {
		cfg = records.Config{AllFields: true}
	}
	return s.job.readAs(ctx, cfg, s.job.sortBy(sorter, func(b *records.Block, r *sortRecord) (bool, error) {
		fields := b.Fields
		if encodes {
			s.widest[b.Worker] = max(s.widest[b.Worker], len(b.Fields))
			var ok bool
			if fields, ok = s.pick(picked[b.Worker][:0], b); !ok {
				return false, nil
			}
			picked[b.Worker] = fields
		}
		r.key, r.buf = joinKeyOf(r.buf, fields, o.MatchEmpty)
		switch {
		case encodes:
			from := len(r.buf)
			r.buf = s.encode(r.buf, b.Fields, nil, withKey, b.Record)
			r.value = r.buf[from:]
		case !o.How.Pairs() && isRight:
			r.value = nil // only the key is asked for
		}
		return true, nil
	}))
}

// pick picks the fields of --on out of all of a record.
func (s *joinSide) pick(dst [][]byte, b *records.Block) (_ [][]byte, ok bool) {
	n := len(b.Fields)
	for _, k := range s.keys {
		if k < -n || k >= n {
			if k >= 0 {
				k++
			}
			b.Bad(fmt.Errorf("there is no field %d: the record has %s", k, textfmt.Plural(int64(n), "field")))
			return dst, false
		}
		dst = append(dst, b.Fields[(k+n)%n])
	}
	return dst, true
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

// What encode makes begins with four bytes: the length of the fields of --on, or that
// the output cannot hold the record, followed by why. That is an error only if the
// record is written at all.
const cannotWrite = 1 << 31

// encode appends the fields of a record as the output has them: those of --on, if
// wanted, then the others.
func (s *joinSide) encode(dst []byte, values [][]byte, bare []bool, withKey bool, record []byte) []byte {
	from, n := len(dst), len(values)
	dst = append(dst, 0, 0, 0, 0)
	put := func(column, i int) (err error) {
		v := output.Value{Text: values[i]}
		if s.json() {
			v.Missing, v.JSON = values[i] == nil, bare[i]
		}
		if dst, err = s.rows.AppendStart(dst, column); err != nil {
			return err
		}
		dst, err = s.rows.AppendField(dst, column, &v)
		return err
	}
	isKey := func(i int) bool { return slices.Contains(s.keys, i) || slices.Contains(s.keys, i-n) }
	var err error
	for column := 0; withKey && column < len(s.keys) && err == nil; column++ {
		err = put(column, (s.keys[column]+n)%n)
	}
	length := uint32(len(dst) - from - 4)
	for i, column := 0, s.first; i < n && err == nil; i++ {
		if !isKey(i) {
			err = put(column, i)
			column++
		}
	}
	if err != nil {
		length = cannotWrite
		dst = fmt.Appendf(dst[:from+4], "%s: the record %s: %v", s.job.Files[0], quoteShort(trimNewline(record)), err)
	}
	binary.LittleEndian.PutUint32(dst[from:], length)
	return dst
}

// written returns the fields of a record of the sorter, as encode made them.
func (s *joinSide) written(record []byte) (key, others []byte, err error) {
	if s.json() {
		s.split.Feed(record, true)
		if kind := s.split.Next(); kind != records.Data {
			return nil, nil, fmt.Errorf("%s: the record %s: %w", s.job.Files[0], quoteShort(trimNewline(record)), s.split.Err)
		}
		s.buf = s.encode(s.buf[:0], s.split.Values, s.split.Bare, true, record)
		record = s.buf
	}
	if len(record) < 4 {
		return nil, nil, errShortRow
	}
	length, rest := binary.LittleEndian.Uint32(record), record[4:]
	switch {
	case length == cannotWrite:
		return nil, nil, fmt.Errorf("%s", rest)
	case int64(length) > int64(len(rest)):
		return nil, nil, errShortRow
	}
	return rest[:length], rest[length:], nil
}

// missing returns what stands for the others of a side without a partner.
func (s *joinSide) missing() (_ []byte, err error) {
	if s.none != nil {
		return s.none, nil
	}
	text := []byte{}
	for i := range s.others() {
		if text, err = s.rows.AppendStart(text, s.first+i); err == nil {
			text, err = s.rows.AppendField(text, s.first+i, &output.Value{Missing: true})
		}
		if err != nil {
			return nil, fmt.Errorf("a record without a partner: %w", err)
		}
	}
	s.none = text
	return text, nil
}
