package records

import (
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

// Selector drops records and replaces the others. Each worker has its own selector.
type Selector struct {
	Fields []Field // the fields that Keep and Write receive

	// Keep reports whether to keep a record. nil keeps all. If it returns an error, the record is bad.
	Keep func(fields [][]byte) (bool, error)

	// KeepColumns does the work of Keep for many records: it sets keep[i] for record from+i of c.
	// Column firstSelected+f of c holds the selector's field f. kept is the number of records to
	// keep. firstBad is the first i whose record is bad, or len(keep); the caller gets the record's
	// error from Keep. If all records must be kept, KeepColumns need not set keep.
	KeepColumns func(c *Columns, firstSelected, from int, keep []bool) (kept, firstBad int)

	// Write appends the replacement for a record, including its line ending. If Write is nil,
	// records stay unchanged.
	Write func(dst []byte, fields [][]byte) ([]byte, error)

	MaxRecord int // maximum total size of the fields that Write receives, in bytes
}

// selectRecord applies the selector to the current record. It checks the other fields and cuts
// parts only if the record is kept, so that a dropped record cannot be bad.
func (b *Block) selectRecord() Kind {
	s, sel := b.splitter, b.selector
	var firstSelected int // index of the selector's first field
	if sel != nil {
		firstSelected = len(s.Values) - len(sel.Fields)
		b.Fields, b.Unquoted = s.Values[:firstSelected], s.Bare[:firstSelected]
	}
	if sel != nil && sel.Keep != nil {
		keep, err := sel.Keep(s.Values[firstSelected:])
		if err != nil {
			s.Err = err
			return Bad
		}
		if !keep {
			return Dropped
		}
	}
	if s.lateErr != nil {
		s.Err = s.lateErr
		return Bad
	}
	if s.parts != nil {
		if kind := s.cutParts(); kind != Data {
			return kind
		}
	}
	if sel == nil || sel.Write == nil {
		return Data
	}
	size := 0
	for _, f := range s.Values[firstSelected:] {
		size += len(f)
	}
	if size > sel.MaxRecord {
		s.Err = fmt.Errorf("%w: the selected columns have %d bytes, but the limit is %d, a sixteenth of --memory", partd.ErrTooLarge, size, sel.MaxRecord)
		return Broken
	}
	record, err := sel.Write(s.reserve(2*size+64), s.Values[firstSelected:])
	if err != nil {
		s.Err = err
		return Broken
	}
	if len(record) <= cap(s.arena)-len(s.arena) { // otherwise Write has allocated memory
		s.commit(record)
	}
	b.Record = record[:len(record):len(record)]
	return Data
}

// selectColumns applies the selector to k records of c, starting at index from: it removes the dropped
// records and cuts the parts of the others. The records begin at index start of the data, and
// ends.positions[firstEnd] is the end of the first record's first field. If Next
// must report a record as bad, selectColumns goes back to that record, and ok is false.
func (b *Block) selectColumns(c *Columns, from, k, start, firstEnd int) (kept int, ok bool) {
	s, e := b.splitter, &b.splitter.ends
	firstBad, drops := k, false
	if b.selector != nil {
		b.keep = slices.Grow(b.keep[:0], k)[:k]
		kept, firstBad = b.selector.KeepColumns(c, len(s.fields)-len(b.selector.Fields), from, b.keep)
		if kept == k && s.parts == nil {
			return k, true
		}
		drops = kept < k
	}
	// beginOf returns the index in the data at which record i begins.
	beginOf := func(i int) int {
		if i == 0 {
			return start
		}
		return e.base + int(e.positions[firstEnd+i*s.fieldCount-1]) + 1
	}
	out := from
	for i := 0; i < firstBad; i++ {
		switch {
		case drops && !b.keep[i]:
			b.tally.Dropped++
			b.tally.DroppedBytes += int64(beginOf(i+1) - beginOf(i))
			continue
		case !s.cutColumns(c, from+i):
			firstBad = i
			continue
		case out < from+i:
			for f := range c.From {
				c.From[f][out], c.To[f][out] = c.From[f][from+i], c.To[f][from+i]
			}
		}
		out++
	}
	if firstBad == k {
		return out - from, true
	}
	s.pos, s.lines = beginOf(firstBad), s.lines-int64(k-firstBad)
	e.lineIndex -= k - firstBad
	e.firstEnd -= (k - firstBad) * s.fieldCount
	return out - from, false
}

// cutColumns cuts the parts of record i of c. It returns false if a value cannot be cut.
func (s *Splitter) cutColumns(c *Columns, i int) bool {
	for _, f := range s.parts {
		from, to, err := s.fields[f].Part.Of(c.Data[c.From[f][i]:c.To[f][i]])
		if err != nil {
			return false
		}
		c.From[f][i], c.To[f][i] = c.From[f][i]+uint32(from), c.From[f][i]+uint32(to)
	}
	return true
}
