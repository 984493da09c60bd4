package hashagg

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/spill"
)

// spillFile is a file of states. Each full table is written to it as a run: the table's states in
// the order of their partitions. Each block in the file has states from one partition.
//
// A state is stored as the key's length, the record count and the data's length (all uvarints),
// followed by the key and the data.
type spillFile struct {
	file    *spill.File
	runs    int
	blocks  [numPartitions][]int // block numbers of each partition
	indexed int                  // number of block numbers in blocks
	scratch []byte
}

// bufferSize returns the size of writes and reads for tables of share bytes.
func bufferSize(share int64) int { return int(max(min(share/16, 256<<10), 8<<10)) }

func (s *spillFile) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}

// emptyTable empties the table: it writes all entries to the table's file or calls the function set
// with DrainTo.
func (t *Table) emptyTable() error {
	if err := canceled.Err(t.a.Ctx); err != nil {
		return t.a.Err()
	}
	if t.drain != nil {
		return t.drain()
	}
	if t.level > maxLevel-1 {
		return fmt.Errorf("%w: too many keys have equal hashes", ErrTooLarge)
	}
	if t.spill == nil {
		f, err := spill.Create(t.a.Temp, "states", bufferSize(t.a.share))
		if err != nil {
			return err
		}
		t.spill = &spillFile{file: f}
	}
	s := t.spill
	oldSize := s.file.Size()
	s.runs++
	order := t.entriesByPartition()
	for i, o := range order {
		if i%batchSize == 0 {
			t.prefetchHeads(order[i:min(i+batchSize, len(order))])
		}
		pos, p := int(uint32(o)), int(o>>32)
		if err := t.writeEntry(pos, t.key(pos)); err != nil {
			return err
		}
		if i+1 == len(order) || int(order[i+1]>>32) != p {
			s.endBlock(p)
		}
	}
	if err := s.file.Flush(); err != nil {
		return err
	}
	t.a.Mu.Lock()
	t.a.stats.Spills++
	t.a.stats.Written += s.file.Size() - oldSize
	t.a.Mu.Unlock()
	t.reset()
	return nil
}

// entriesByPartition returns the entries ordered by partition. The upper half of each number is the
// entry's partition, and the lower half is its position. The result overwrites t.slots.
func (t *Table) entriesByPartition() []uint64 {
	unordered, order := t.slots[:t.entryCount], t.slots[t.entryCount:2*t.entryCount]
	var ends [numPartitions + 1]int
	n, pos := 0, 0
	for range unordered {
		key := t.key(pos)
		hash := maphash.Bytes(t.seed, key)
		isMoved := false // whether an exchange has merged the entry into the table that owns its key
		if t.mergedUpTo != nil {
			to := ownerOf(hash, len(t.mergedUpTo))
			isMoved = to != t.tableIndex && pos < t.mergedUpTo[to]
		}
		if !isMoved {
			p := int(bits.RotateLeft64(hash, (t.level+1)*partitionBits) & (numPartitions - 1)) // bits that slots do not use
			unordered[n] = uint64(p)<<32 | uint64(pos)
			ends[p+1]++
			n++
		}
		pos += t.entryWords(len(key))
	}
	unordered, order = unordered[:n], order[:n]
	for p := range numPartitions {
		ends[p+1] += ends[p]
	}
	for _, o := range unordered {
		p := o >> 32
		order[ends[p]] = o
		ends[p]++
	}
	return order
}

func (t *Table) prefetchHeads(order []uint64) {
	var sum uint64
	for _, o := range order {
		sum += t.words[uint32(o)]
	}
	t.sink = sum
}

func (t *Table) writeEntry(pos int, key []byte) error {
	s := t.spill
	data, err := t.encode(s.scratch[:0], pos)
	if err != nil {
		return err
	}
	s.scratch = data
	if err := s.file.Room(len(key) + len(data) + 3*binary.MaxVarintLen64); err != nil {
		return err
	}
	b := s.file.Buf
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, t.count(pos))
	b = binary.AppendUvarint(b, uint64(len(data)))
	b = append(b, key...)
	s.file.Buf = append(b, data...)
	return nil
}

func (t *Table) encode(dst []byte, pos int) ([]byte, error) {
	if t.states != nil {
		return t.states.Append(dst, t.state(pos))
	}
	for _, w := range t.state(pos) {
		dst = binary.AppendUvarint(dst, w) // most words are small
	}
	return dst, nil
}

// endBlock ends the current block and assigns all new blocks to partition p.
func (s *spillFile) endBlock(p int) {
	s.file.End()
	for ; s.indexed < s.file.Blocks(); s.indexed++ {
		s.blocks[p] = append(s.blocks[p], s.indexed)
	}
}

func (t *Table) mergeBlock(b []byte) error {
	for len(b) > 0 {
		var n [3]uint64
		for i := range n {
			x, l := binary.Uvarint(b)
			if l <= 0 {
				return spill.ErrDamaged
			}
			n[i], b = x, b[l:]
		}
		keyLen, dataLen := n[0], n[2]
		if keyLen > uint64(len(b)) || dataLen > uint64(len(b))-keyLen {
			return spill.ErrDamaged
		}
		if err := t.merge(b[:keyLen], n[1], b[keyLen:keyLen+dataLen]); err != nil {
			return err
		}
		b = b[keyLen+dataLen:]
	}
	return nil
}

// merge merges data, the encoded state of count records, into a key's state.
func (t *Table) merge(key []byte, count uint64, data []byte) error {
	pos, isNew, err := t.entry(maphash.Bytes(t.seed, key), key)
	if err != nil {
		return err
	}
	t.addCount(pos, count)
	if t.states != nil {
		return t.states.Merge(t.state(pos), isNew, data)
	}
	for i := range t.decoded {
		w, l := binary.Uvarint(data)
		if l <= 0 {
			return spill.ErrDamaged
		}
		t.decoded[i], data = w, data[l:]
	}
	if len(data) > 0 {
		return spill.ErrDamaged
	}
	t.mergeWords(pos, isNew, t.decoded)
	return nil
}

func (t *Table) mergeWords(pos int, isNew bool, other []uint64) {
	if isNew {
		copy(t.state(pos), other)
	} else if t.a.opts.Merge != nil {
		t.a.opts.Merge(t.state(pos), other)
	}
}
