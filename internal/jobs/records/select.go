package records

import (
	"fmt"

	"github.com/go-partd/partd"
)

// Selector drops records, and replaces the others. A worker has its own selector.
type Selector struct {
	Fields []Field // the fields that Keep and Write receive

	// Keep reports whether to keep a record. nil keeps all. If it returns an error, the record is bad.
	Keep func(fields [][]byte) (bool, error)

	// Write appends the record that replaces a record, with its line ending. nil replaces no record.
	Write func(dst []byte, fields [][]byte) ([]byte, error)

	MaxRecord int // maximum total size of the fields that Write receives, in bytes
}

// selectRecord applies the selector to the current record, and then cuts the fields' parts, so that a
// dropped record cannot be bad.
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
	out := n
	for i := range k {
		end := e.base + int(e.positions[firstEnd+(i+1)*s.fieldCount-1]) + 1
		keep, err := b.selectInColumns(c, n+i)
		if err != nil {
			s.pos, s.lines = start, s.lines-int64(k-i)
			e.lineIndex -= k - i
			e.firstEnd -= (k - i) * s.fieldCount
			return out - n, false
		}
		switch {
		case !keep:
			b.tally.Dropped++
			b.tally.DroppedBytes += int64(end - start)
		case out < n+i:
			for f := range c.From {
				c.From[f][out], c.To[f][out] = c.From[f][n+i], c.To[f][n+i]
			}
			out++
		default:
			out++
		}
		start = end
	}
	return out - n, true
}

// selectInColumns reports whether to keep record i of c, and cuts the parts of its fields.
func (b *Block) selectInColumns(c *Columns, i int) (bool, error) {
	s := b.splitter
	if sel := b.selector; sel != nil && sel.Keep != nil {
		own := len(s.fields) - len(sel.Fields)
		for f := own; f < len(s.fields); f++ {
			s.Values[f] = c.Data[c.From[f][i]:c.To[f][i]]
		}
		if keep, err := sel.Keep(s.Values[own:len(s.fields)]); !keep || err != nil {
			return false, err
		}
	}
	for _, f := range s.parts {
		from, to, err := s.fields[f].Part.Of(c.Data[c.From[f][i]:c.To[f][i]])
		if err != nil {
			return false, err
		}
		c.From[f][i], c.To[f][i] = c.From[f][i]+uint32(from), c.From[f][i]+uint32(to)
	}
	return true, nil
}
