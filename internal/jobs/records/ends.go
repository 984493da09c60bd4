package records

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

const endsWindow = 4 << 10 // number of bytes in a window: see ends

// ends holds the positions of the ends of fields (separators and newlines) in a window of data
// without quotes. Finding the ends of many records together is faster than splitting each record.
type ends struct {
	base      int      // position of the window in the data
	positions []uint32 // positions of separators and newlines relative to base, followed by unused elements
	lines     []uint32 // indexes in positions of the newlines
	lineIndex int      // index in lines of the next record's newline
	firstEnd  int      // index in positions of the end of the next record's first field
	sep       uint64   // the separator, repeated in each byte
	bits      [endsWindow / 64][2]uint64
}

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	highBits = 0x8080808080808080
	eachByte = 0x0101010101010101
	highByte = 0xff << 56
	gather   = 0x0002040810204081 // a factor that gathers the highest bits of all bytes in the highest byte
	newlines = '\n' * eachByte
)

// find sets e to the ends in data, a window that begins at index base of the splitter's data.
func (e *ends) find(data []byte, base int) {
	if e.positions == nil {
		e.positions, e.lines = make([]uint32, endsWindow+64), make([]uint32, endsWindow)
	}
	e.base, e.lineIndex, e.firstEnd = base, 0, 0
	positions, lines := e.positions, e.lines[:cap(e.lines)]
	blockCount := len(data) / 64
	if blockCount > 0 {
		findBits(data, e.sep, e.bits[:blockCount])
	}
	if rest := data[64*blockCount:]; len(rest) > 0 {
		var tail [64]byte
		copy(tail[:], rest)
		findBitsPortable(tail[:], e.sep, e.bits[blockCount:blockCount+1])
		e.bits[blockCount][0] &= 1<<len(rest) - 1
		e.bits[blockCount][1] &= 1<<len(rest) - 1
		blockCount++
	}
	n, l := 0, 0
	for _, b := range e.bits[:blockCount] {
		for newline := b[1]; newline != 0; newline &= newline - 1 {
			lines[l] = uint32(n + bits.OnesCount64(b[0]&(newline-1)&^newline))
			l++
		}
		n += bits.OnesCount64(b[0])
	}
	e.lines = lines[:l]
	if blockCount > 0 {
		findPositions(e.bits[:blockCount], positions)
	}
}

// findPositionsPortable sets positions to the positions of the bits that are set in each first word of
// ends, which represents 64 positions. It can also overwrite up to 64 more elements of positions.
func findPositionsPortable(ends [][2]uint64, positions []uint32) {
	n := 0
	for i, b := range ends {
		from, endBits := 64*i, b[0]
		// Store four positions in each round, to avoid mispredicted branches. The next word
		// overwrites surplus positions.
		end := n + bits.OnesCount64(endBits)
		for ; n < end; n += 4 {
			four := (*[4]uint32)(positions[n:])
			four[0] = uint32(from + bits.TrailingZeros64(endBits))
			endBits &= endBits - 1
			four[1] = uint32(from + bits.TrailingZeros64(endBits))
			endBits &= endBits - 1
			four[2] = uint32(from + bits.TrailingZeros64(endBits))
			endBits &= endBits - 1
			four[3] = uint32(from + bits.TrailingZeros64(endBits))
			endBits &= endBits - 1
		}
		n = end
	}
}

// findBitsPortable sets two words for each 64 bytes of data: a bitmap of all ends, and a bitmap of
// the newlines. sep is the separator, repeated in each byte.
func findBitsPortable(data []byte, sep uint64, bits [][2]uint64) {
	for k := range bits {
		block := (*[64]byte)(data[64*k:])
		var all, newline uint64
		for i := 0; i < 64; i += 8 {
			word := binary.LittleEndian.Uint64(block[i : i+8])
			a, b := word^sep, word^newlines
			a, b = (a&lowBits+lowBits)|a, (b&lowBits+lowBits)|b
			all = all>>8 | ^(a&b)&highBits*gather&highByte
			newline = newline>>8 | ^b&highBits*gather&highByte
		}
		bits[k] = [2]uint64{all, newline}
	}
}

// findEnds ensures that s.ends holds the end of the next record. It returns false if the record must
// be split in another way: because it contains a quote or is longer than a window.
func (s *Splitter) findEnds() bool {
	e := &s.ends
	if e.lineIndex < len(e.lines) {
		return true
	}
	to := min(s.pos+endsWindow, len(s.buf))
	if s.layout.Format == CSV {
		s.hasQuoteBefore(to)
		to = min(to, s.quote)
		if to == s.quote && bytes.IndexByte(s.buf[s.pos:to], '\n') < 0 {
			return false // the next record contains the quote
		}
	}
	e.find(s.buf[s.pos:to], s.pos)
	return len(e.lines) > 0
}

// nextPlain splits the next record at the positions in s.ends. It returns false if the record must
// be split in another way, or has an unexpected number of fields.
func (s *Splitter) nextPlain() bool {
	if !s.findEnds() {
		return false
	}
	e := &s.ends
	last := int(e.lines[e.lineIndex])
	positions := e.positions[e.firstEnd : last+1]
	e.lineIndex++
	e.firstEnd = last + 1
	if len(positions) != s.fieldCount || s.fieldCount < 2 {
		return false
	}
	end := e.base + int(positions[len(positions)-1])
	for _, w := range s.requested {
		from, to := s.pos, e.base+int(positions[w.index])
		if w.index > 0 {
			from = e.base + int(positions[w.index-1]) + 1
		}
		if to == end && to > from && s.buf[to-1] == '\r' {
			to--
		}
		s.Values[w.slot] = s.buf[from:to]
	}
	s.Record = s.buf[s.pos : end+1 : end+1]
	s.pos = end + 1
	s.lines++
	return true
}
