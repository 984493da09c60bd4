package hashagg

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// spill is a file of states, in runs: what a table held, ordered by division, in
// chunks of one division each. So neighbouring divisions can be read at once.
// Where the chunks are, and their checksums, is kept in memory: nobody else reads
// the file.
//
// A state is stored as: length of the key, count, length of the data (uvarints),
// the key, the data.
type spill struct {
	file    vfs.File
	size    int64 // bytes written
	runs    int
	chunks  [divisions][]chunkRef
	buf     []byte // not written yet
	begun   int    // where in buf the chunk begins that is not ended yet
	scratch []byte
}

type chunkRef struct {
	offset int64
	length uint32
	crc    uint32 // CRC-32C
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errChunk   = errors.New("a chunk of states does not hold what was written to it")
)

// bufferSize is how much is written at once, and read.
func bufferSize(share int64) int { return int(max(min(share/16, 256<<10), 8<<10)) }

func (s *spill) close() error {
	if s == nil || s.file == nil {
		return nil
	}
	return s.file.Close()
}

// writeOut writes all entries to the table's file, and forgets them.
func (t *Table) writeOut() error {
	if err := t.a.ctx.Err(); err != nil {
		return t.a.why()
	}
	if t.level > maxLevel-1 {
		return fmt.Errorf("%w: states of too many keys with alike hashes", ErrTooLarge)
	}
	if t.spill == nil {
		f, err := t.a.temp.Create()
		if err != nil {
			return fmt.Errorf("a file for states: %w", err)
		}
		t.spill = &spill{file: f}
	}
	s := t.spill
	before := s.size
	s.runs++
	if cap(s.buf) == 0 {
		s.buf = make([]byte, 0, bufferSize(t.a.share))
	}
	order := t.byDivision()
	for i, o := range order {
		at, d := int(uint32(o)), int(o>>32)
		if err := t.writeEntry(at, t.key(at), d); err != nil {
			return err
		}
		if i+1 == len(order) || int(order[i+1]>>32) != d {
			s.endChunk(d)
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	t.a.mu.Lock()
	t.a.stats.Spills++
	t.a.stats.Written += s.size - before
	t.a.mu.Unlock()
	t.reset()
	return nil
}

// byDivision returns where the entries begin, each with its division in the upper
// half, in the order of these. It takes the place of the slots, which are twice as
// many at least and not needed any more.
func (t *Table) byDivision() []uint64 {
	all, order := t.slots[:t.n], t.slots[t.n:2*t.n]
	var ends [divisions + 1]int
	for i, at := 0, 0; i < len(all); i++ {
		key := t.key(at)
		d := division(maphash.Bytes(t.seed, key), t.level)
		all[i] = uint64(d)<<32 | uint64(at)
		ends[d+1]++
		at += t.size(len(key))
	}
	for d := range divisions {
		ends[d+1] += ends[d]
	}
	for _, o := range all {
		d := o >> 32
		order[ends[d]] = o
		ends[d]++
	}
	return order
}

func (t *Table) writeEntry(at int, key []byte, d int) error {
	s := t.spill
	data, err := t.encode(s.scratch[:0], at)
	if err != nil {
		return err
	}
	s.scratch = data
	size := len(key) + len(data) + 3*binary.MaxVarintLen64
	if len(s.buf)+size > cap(s.buf) {
		s.endChunk(d)
		if err := s.flush(); err != nil {
			return err
		}
	}
	b := slices.Grow(s.buf, size)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, t.count(at))
	b = binary.AppendUvarint(b, uint64(len(data)))
	b = append(b, key...)
	s.buf = append(b, data...)
	return nil
}

// encode appends the state of an entry to dst.
func (t *Table) encode(dst []byte, at int) ([]byte, error) {
	if t.states != nil {
		return t.states.Append(dst, t.state(at))
	}
	for _, w := range t.state(at) {
		dst = binary.AppendUvarint(dst, w) // most are small
	}
	return dst, nil
}

// endChunk notes what was buffered last, if anything, as a chunk of a division.
func (s *spill) endChunk(d int) {
	if b := s.buf[s.begun:]; len(b) > 0 {
		s.chunks[d] = append(s.chunks[d], chunkRef{s.size + int64(s.begun), uint32(len(b)), crc32.Checksum(b, castagnoli)})
		s.begun = len(s.buf)
	}
}

// flush writes what is buffered, and ended.
func (s *spill) flush() error {
	if _, err := s.file.WriteAt(s.buf, s.size); err != nil {
		return fmt.Errorf("writing states: %w", err)
	}
	s.size += int64(len(s.buf))
	s.buf, s.begun = s.buf[:0], 0
	return nil
}

// chunksOf returns the chunks of some divisions, in the order of the file.
func (s *spill) chunksOf(from, to int) []chunkRef {
	all := slices.Concat(s.chunks[from:to]...)
	slices.SortFunc(all, func(a, b chunkRef) int { return cmp.Compare(a.offset, b.offset) })
	return all
}

// read reads the first of some chunks, with those that follow it in the file as far
// as there is room for, and returns how many these are.
func (s *spill) read(buf []byte, chunks []chunkRef, room int) ([]byte, int, error) {
	n, size := 1, int(chunks[0].length)
	for ; n < len(chunks) && chunks[n].offset == chunks[0].offset+int64(size) && size+int(chunks[n].length) <= room; n++ {
		size += int(chunks[n].length)
	}
	buf = slices.Grow(buf[:0], size)[:size]
	if _, err := s.file.ReadAt(buf, chunks[0].offset); err != nil {
		return buf, n, fmt.Errorf("reading states: %w", err)
	}
	rest := buf
	for _, c := range chunks[:n] {
		if crc := crc32.Checksum(rest[:c.length], castagnoli); crc != c.crc {
			return buf, n, &partd.CorruptError{Path: s.file.Name(), Offset: c.offset, Err: fmt.Errorf("%w: CRC-32C %08x, not %08x", errChunk, crc, c.crc)}
		}
		rest = rest[c.length:]
	}
	return buf, n, nil
}

// mergeChunk adds the states of a chunk to the table.
func (t *Table) mergeChunk(b []byte) error {
	for len(b) > 0 {
		var n [3]uint64
		for i := range n {
			x, l := binary.Uvarint(b)
			if l <= 0 {
				return errChunk
			}
			n[i], b = x, b[l:]
		}
		keyLen, dataLen := n[0], n[2]
		if keyLen > uint64(len(b)) || dataLen > uint64(len(b))-keyLen {
			return errChunk
		}
		if err := t.merge(b[:keyLen], n[1], b[keyLen:keyLen+dataLen]); err != nil {
			return err
		}
		b = b[keyLen+dataLen:]
	}
	return nil
}

// merge adds a state of a key, of count records.
func (t *Table) merge(key []byte, count uint64, data []byte) error {
	at, isNew, err := t.entry(maphash.Bytes(t.seed, key), key)
	if err != nil {
		return err
	}
	t.addCount(at, count)
	if t.states != nil {
		return t.states.Merge(t.state(at), isNew, data)
	}
	for i := range t.other {
		w, l := binary.Uvarint(data)
		if l <= 0 {
			return errChunk
		}
		t.other[i], data = w, data[l:]
	}
	if len(data) > 0 {
		return errChunk
	}
	t.mergeWords(at, isNew, t.other)
	return nil
}

func (t *Table) mergeWords(at int, isNew bool, other []uint64) {
	if isNew {
		copy(t.state(at), other)
	} else if t.a.opts.Merge != nil {
		t.a.opts.Merge(t.state(at), other)
	}
}
