package records

import (
	"fmt"
	"slices"

	"github.com/go-partd/partd"
)

// Selector drops records, and replaces the others. A worker has its own selector.
type Selector struct {
	Fields []Field // the fields that Keep and Write receive

	// Keep reports whether to keep a record. nil keeps all. If it returns an error, the record is bad.
	Keep func(fields [][]byte) (bool, error)

	// KeepColumns sets keep for the records in c from index n on. Column own+f has the selector's field f. It returns
	// the number of records to keep, and the index in keep of the first record that Keep must report as bad, or the
	// length of keep. If all records are to be kept, it does not set keep.
	KeepColumns func(c *Columns, own, n int, keep []bool) (kept, valid int)

	// Write appends the record that replaces a record, with its line ending. nil replaces no record.
	Write func(dst []byte, fields [][]byte) ([]byte, error)

	MaxRecord int // maximum total size of the fields that Write receives, in bytes
}

// selectRecord applies the selector to the current record. Only then does it check the other fields and cut the fields'
// parts, so that a dropped record cannot be bad.
func (b *Block) selectRecord() Kind {
	s, sel := b.splitter, b.selector
	var own int // number of fields besides the selector's
	if sel != nil {
		own = len(s.Values) - len(sel.Fields)
		b.Fields, b.Unquoted = s.Values[:own], s.Bare[:own]
	}
	if sel != nil && sel.Keep != nil {
		keep, err := sel.Keep(s.Values[own:])
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
	for _, f := range s.Values[own:] {
		size += len(f)
	}
	if size > sel.MaxRecord {
		s.Err = fmt.Errorf("%w: the selected columns have %d bytes, but the limit is %d, a sixteenth of --memory", partd.ErrTooLarge, size, sel.MaxRecord)
		return Broken
	}
	record, err := sel.Write(s.reserve(2*size+64), s.Values[own:])
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

// selectColumns removes the records that the selector drops from the k records in c from index n, and
// cuts the fields' parts. The records begin at index start of the data, and their ends are at
// firstEnd. If Next must report a record as bad, it returns to that record, and ok is false.
func (b *Block) selectColumns(c *Columns, n, k, start, firstEnd int) (kept int, ok bool) {
	s, e := b.splitter, &b.splitter.ends
	valid, drops := k, false
	if b.selector != nil {
		b.keep = slices.Grow(b.keep[:0], k)[:k]
		kept, valid = b.selector.KeepColumns(c, len(s.fields)-len(b.selector.Fields), n, b.keep)
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
	out := n
	for i := 0; i < valid; i++ {
		switch {
		case drops && !b.keep[i]:
			b.tally.Dropped++
			b.tally.DroppedBytes += int64(beginOf(i+1) - beginOf(i))
			continue
		case !s.cutColumns(c, n+i):
			valid = i
			continue
		case out < n+i:
			for f := range c.From {
				c.From[f][out], c.To[f][out] = c.From[f][n+i], c.To[f][n+i]
			}
		}
		out++
	}
	if valid == k {
		return out - n, true
	}
	s.pos, s.lines = beginOf(valid), s.lines-int64(k-valid)
	e.lineIndex -= k - valid
	e.firstEnd -= (k - valid) * s.fieldCount
	return out - n, false
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
