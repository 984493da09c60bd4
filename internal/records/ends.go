package records

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// endsWindow is the number of bytes that are searched together.
const endsWindow = 4 << 10

// ends has the positions of the separators and newlines in a window of data without quotes.
// They are found for many records at once, 64 bytes at a time. So the requested fields of a
// record can be located without searching the others.
type ends struct {
	base  int      // position of the window in the data
	at    []uint32 // positions of separators and newlines relative to base; may have spare room
	lines []uint32 // the indexes of the newlines in at
	line  int      // index in lines of the end of the next record
	first int      // index in at of the first end of the next record
	sep   uint64   // the separator, in each byte
	bits  [endsWindow / 64][2]uint64
}

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	highBits = 0x8080808080808080
	eachByte = 0x0101010101010101
	highByte = 0xff << 56
	gather   = 0x0002040810204081 // moves the highest bit of each byte into the highest byte
	newlines = '\n' * eachByte
)

// find finds the ends in data, which is at most a window and begins at base.
func (e *ends) find(data []byte, base int) {
	if e.at == nil {
		e.at, e.lines = make([]uint32, endsWindow+64), make([]uint32, endsWindow)
	}
	e.base, e.line, e.first = base, 0, 0
	positions, lines := e.at, e.lines[:cap(e.lines)]
	wordCount := len(data) / 64
	if wordCount > 0 {
		findBits(data, e.sep, e.bits[:wordCount])
	}
	if rest := data[64*wordCount:]; len(rest) > 0 {
		var tail [64]byte
		copy(tail[:], rest)
		findBitsOfWords(tail[:], e.sep, e.bits[wordCount:wordCount+1])
		e.bits[wordCount][0] &= 1<<len(rest) - 1
		e.bits[wordCount][1] &= 1<<len(rest) - 1
		wordCount++
	}
	n, l := 0, 0
	for i, b := range e.bits[:wordCount] {
		from, all, newline := 64*i, b[0], b[1]
		for ; newline != 0; newline &= newline - 1 {
			lines[l] = uint32(n + bits.OnesCount64(all&(newline-1)&^newline))
			l++
		}
		// Store four at a time, which the processor predicts well. Extra ones are overwritten.
		next := n + bits.OnesCount64(all)
		for ; n < next; n += 4 {
			four := (*[4]uint32)(positions[n:])
			four[0] = uint32(from + bits.TrailingZeros64(all))
			all &= all - 1
			four[1] = uint32(from + bits.TrailingZeros64(all))
			all &= all - 1
			four[2] = uint32(from + bits.TrailingZeros64(all))
			all &= all - 1
			four[3] = uint32(from + bits.TrailingZeros64(all))
			all &= all - 1
		}
		n = next
	}
	e.lines = lines[:l]
}

// findBitsOfWords finds separators and newlines. For each 64 bytes it sets two words: the bits
// of separators and newlines, and the bits of newlines only.
func findBitsOfWords(data []byte, sep uint64, bits [][2]uint64) {
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

// nextPlain finds the requested fields of the next record by the positions of its ends. It
// returns false if none are known, or if the record is unusual; then the record must be split
// separately.
func (s *Splitter) nextPlain() bool {
	e := &s.ends
	if e.line == len(e.lines) {
		to := min(s.pos+endsWindow, len(s.buf))
		if s.layout.Format == CSV {
			s.quoteBefore(to)
			if to = min(to, s.quote); to == s.quote && bytes.IndexByte(s.buf[s.pos:to], '\n') < 0 {
				return false // the quote is in the next record
			}
		}
		if e.find(s.buf[s.pos:to], s.pos); len(e.lines) == 0 {
			return false
		}
	}
	last := int(e.lines[e.line])
	positions := e.at[e.first : last+1]
	e.line++
	e.first = last + 1
	if len(positions) != s.count || s.count < 2 {
		return false
	}
	end := e.base + int(positions[len(positions)-1])
	for _, w := range s.wants {
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
