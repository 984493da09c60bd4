package records

import "math"

// Columns holds the fields of several records in a block. The value of field f in record i is
// Data[From[f][i]:To[f][i]]. Fields are in the order of [Config.Fields].
type Columns struct {
	Data     []byte
	From, To [][]uint32
}

// NewColumns returns columns with room for n records.
func NewColumns(fields, n int) *Columns {
	c := &Columns{From: make([][]uint32, fields), To: make([][]uint32, fields)}
	for f := range fields {
		c.From[f], c.To[f] = make([]uint32, n), make([]uint32, n)
	}
	return c
}

// NextColumns advances over up to limit records, sets c to their fields and returns their number. It is
// faster than Next, but returns 0 at a record that only Next can split, for example because of a quote, and at
// the end of the block. It does not set Record and Fields.
func (b *Block) NextColumns(c *Columns, limit int) int {
	s := b.splitter
	b.beforeColumns = blockMark{s.pos, s.lines, b.tally}
	if b.err != nil || b.hasInvalid || s.requested == nil || s.valuesChange || s.fieldCount < 2 || len(s.buf) > math.MaxUint32 || b.selector != nil && b.selector.Write != nil {
		return 0
	}
	for len(c.From) < len(s.fields) {
		c.From, c.To = append(c.From, make([]uint32, len(c.From[0]))), append(c.To, make([]uint32, len(c.To[0])))
	}
	c.Data = s.buf
	dropped := b.tally.DroppedBytes
	n := 0
	for n < limit && s.findEnds() {
		start, firstEnd := s.pos, s.ends.firstEnd
		k := s.nextColumns(c, n, limit)
		if k == 0 {
			break
		}
		if b.selector == nil && s.parts == nil {
			n += k
			continue
		}
		kept, ok := b.selectColumns(c, n, k, start, firstEnd)
		n += kept
		if !ok {
			break
		}
	}
	b.tally.Records += int64(n)
	b.tally.RecordBytes += int64(s.pos-b.beforeColumns.pos) - (b.tally.DroppedBytes - dropped)
	return n
}

// blockMark is a position in a block.
type blockMark struct {
	pos   int
	lines int64
	tally Tally
}

// UndoColumns undoes the last call to NextColumns, so that Next returns its records.
func (b *Block) UndoColumns() {
	s, m := b.splitter, b.beforeColumns
	s.pos, s.lines, b.tally = m.pos, m.lines, m.tally
	s.ends.lineIndex = len(s.ends.lines) // discard the ends of later records
}

// nextColumns splits records of the current window and stores them in c from index n to limit. It
// returns their number.
func (s *Splitter) nextColumns(c *Columns, n, limit int) int {
	e := &s.ends
	lines := e.lines[e.lineIndex:min(len(e.lines), e.lineIndex+limit-n)]
	k := 0
	for k < len(lines) && int(lines[k])+1 == e.firstEnd+(k+1)*s.fieldCount {
		k++
	}
	if k == 0 {
		return 0
	}
	base := uint32(e.base)
	ends := e.positions[e.firstEnd : e.firstEnd+k*s.fieldCount]
	for r, w := range s.requested {
		from, to := c.From[w.slot][n:n+k], c.To[w.slot][n:n+k]
		if r > 0 && s.requested[r-1].index == w.index {
			sameSlot := s.requested[r-1].slot
			copy(from, c.From[sameSlot][n:])
			copy(to, c.To[sameSlot][n:])
			continue
		}
		from[0] = uint32(s.pos)
		if w.index > 0 {
			from[0] = base + ends[w.index-1] + 1
		}
		to[0] = base + ends[w.index]
		for i, end := 1, w.index+s.fieldCount; i < k; i, end = i+1, end+s.fieldCount {
			from[i], to[i] = base+ends[end-1]+1, base+ends[end]
		}
		if w.index == s.fieldCount-1 {
			for i, end := range to {
				if end > from[i] && s.buf[end-1] == '\r' {
					to[i]--
				}
			}
		}
	}
	s.readColumns(c, n, k)
	s.pos = e.base + int(ends[len(ends)-1]) + 1
	s.lines += int64(k)
	e.lineIndex += k
	e.firstEnd += len(ends)
	return k
}
