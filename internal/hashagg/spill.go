package hashagg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// spill is a file of states, divided by hash into chunks. Where these are, and
// their checksums, is kept in memory: nobody else reads the file.
//
// A state is stored as: length of the key, count, length of the data (uvarints),
// the key, the data.
type spill struct {
	file    vfs.File
	size    int64
	chunks  [divisions][]chunkRef
	buffers [divisions][]byte
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

// spillBuffer is how many bytes are collected for each division.
func spillBuffer(share int64) int {
	return int(max(min(share/16/divisions, 64<<10), 128))
}

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
	before := t.spill.size
	for at := 0; at < t.used; {
		key := t.key(at)
		if err := t.writeEntry(at, key); err != nil {
			return err
		}
		at += t.size(len(key))
	}
	for d := range t.spill.buffers {
		if err := t.spill.flush(d); err != nil {
			return err
		}
	}
	t.a.mu.Lock()
	t.a.stats.Spills++
	t.a.stats.Written += t.spill.size - before
	t.a.mu.Unlock()
	t.reset()
	return nil
}

func (t *Table) writeEntry(at int, key []byte) error {
	s := t.spill
	data, err := t.encode(s.scratch[:0], at)
	if err != nil {
		return err
	}
	s.scratch = data
	d := division(maphash.Bytes(t.seed, key), t.level)
	size := len(key) + len(data) + 3*binary.MaxVarintLen64
	b := s.buffers[d]
	if len(b)+size > cap(b) {
		if err := s.flush(d); err != nil {
			return err
		}
		if b = s.buffers[d]; size > cap(b) {
			b = make([]byte, 0, max(size, spillBuffer(t.a.share)))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, t.count(at))
	b = binary.AppendUvarint(b, uint64(len(data)))
	b = append(b, key...)
	s.buffers[d] = append(b, data...)
	return nil
}

// encode appends the state of an entry to dst.
func (t *Table) encode(dst []byte, at int) ([]byte, error) {
	if t.states != nil {
		return t.states.Append(dst, t.state(at))
	}
	for _, w := range t.state(at) {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst, nil
}

// flush writes the buffer of a division.
func (s *spill) flush(d int) error {
	b := s.buffers[d]
	if len(b) == 0 {
		return nil
	}
	if _, err := s.file.WriteAt(b, s.size); err != nil {
		return fmt.Errorf("writing states: %w", err)
	}
	s.chunks[d] = append(s.chunks[d], chunkRef{s.size, uint32(len(b)), crc32.Checksum(b, castagnoli)})
	s.size += int64(len(b))
	s.buffers[d] = b[:0]
	return nil
}

// read reads a chunk.
func (s *spill) read(buf []byte, c chunkRef) ([]byte, error) {
	if cap(buf) < int(c.length) {
		buf = make([]byte, c.length)
	}
	buf = buf[:c.length]
	if _, err := s.file.ReadAt(buf, c.offset); err != nil {
		return buf, fmt.Errorf("reading states: %w", err)
	}
	if crc := crc32.Checksum(buf, castagnoli); crc != c.crc {
		return buf, &partd.CorruptError{Path: s.file.Name(), Offset: c.offset, Err: fmt.Errorf("%w: CRC-32C %08x, not %08x", errChunk, crc, c.crc)}
	}
	return buf, nil
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
	if len(data) != 8*len(t.other) {
		return errChunk
	}
	for i := range t.other {
		t.other[i] = binary.LittleEndian.Uint64(data[8*i:])
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
