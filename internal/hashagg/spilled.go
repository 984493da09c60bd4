package hashagg

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/spill"
)

// spilled is a file of states, in runs: what a table held, ordered by partition,
// in blocks of one partition each. So neighbouring partitions can be read at once.
//
// A state is stored as: length of the key, count, length of the data (uvarints),
// the key, the data.
type spilled struct {
	file    *spill.File
	runs    int
	blocks  [partitions][]int // numbers of them
	noted   int               // how many of them are
	scratch []byte
}

// bufferSize is how much is written at once, and read.
func bufferSize(share int64) int { return int(max(min(share/16, 256<<10), 8<<10)) }

func (s *spilled) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}

// writeOut writes all entries to the table's file, and forgets them.
func (t *Table) writeOut() error {
	if err := canceled.Err(t.a.Ctx); err != nil {
		return t.a.Why()
	}
	if t.empty != nil {
		return t.empty()
	}
	if t.level > maxLevel-1 {
		return fmt.Errorf("%w: states of too many keys with equal hashes", ErrTooLarge)
	}
	if t.spill == nil {
		f, err := spill.Create(t.a.Temp, "states", bufferSize(t.a.share))
		if err != nil {
			return err
		}
		t.spill = &spilled{file: f}
	}
	s := t.spill
	before := s.file.Size()
	s.runs++
	order := t.byPartition()
	for i, o := range order {
		if i%ahead == 0 {
			t.readAhead(order[i:min(i+ahead, len(order))])
		}
		at, p := int(uint32(o)), int(o>>32)
		if err := t.writeEntry(at, t.key(at)); err != nil {
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
	t.a.stats.Written += s.file.Size() - before
	t.a.Mu.Unlock()
	t.reset()
	return nil
}

// byPartition returns where the entries begin, each with its partition in the upper
// half, in the order of these. It takes the place of the slots, which are twice as
// many at least and not needed any more.
func (t *Table) byPartition() []uint64 {
	all, order := t.slots[:t.n], t.slots[t.n:2*t.n]
	var ends [partitions + 1]int
	n, at := 0, 0
	for range all {
		key := t.key(at)
		hash := maphash.Bytes(t.seed, key)
		taken := false // it is in the table of its owner now
		if t.taken != nil {
			to := owner(hash, len(t.taken))
			taken = to != t.number && at < t.taken[to]
		}
		if !taken {
			p := int(bits.RotateLeft64(hash, (t.level+1)*levelBits) & (partitions - 1)) // bits that slots do not use
			all[n] = uint64(p)<<32 | uint64(at)
			ends[p+1]++
			n++
		}
		at += t.size(len(key))
	}
	all, order = all[:n], order[:n]
	for p := range partitions {
		ends[p+1] += ends[p]
	}
	for _, o := range all {
		p := o >> 32
		order[ends[p]] = o
		ends[p]++
	}
	return order
}

// readAhead reads the heads of some entries, as prefetch does.
func (t *Table) readAhead(order []uint64) {
	var sum uint64
	for _, o := range order {
		sum += t.words[uint32(o)]
	}
	t.sink = sum
}

func (t *Table) writeEntry(at int, key []byte) error {
	s := t.spill
	data, err := t.encode(s.scratch[:0], at)
	if err != nil {
		return err
	}
	s.scratch = data
	if err := s.file.Room(len(key) + len(data) + 3*binary.MaxVarintLen64); err != nil {
		return err
	}
	b := s.file.Buf
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, t.count(at))
	b = binary.AppendUvarint(b, uint64(len(data)))
	b = append(b, key...)
	s.file.Buf = append(b, data...)
	return nil
}

func (t *Table) encode(dst []byte, at int) ([]byte, error) {
	if t.states != nil {
		return t.states.Append(dst, t.state(at))
	}
	for _, w := range t.state(at) {
		dst = binary.AppendUvarint(dst, w) // most are small
	}
	return dst, nil
}

// endBlock ends a block, and notes it and those before as of a partition.
func (s *spilled) endBlock(p int) {
	s.file.End()
	for ; s.noted < s.file.Blocks(); s.noted++ {
		s.blocks[p] = append(s.blocks[p], s.noted)
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
			return spill.ErrDamaged
		}
		t.other[i], data = w, data[l:]
	}
	if len(data) > 0 {
		return spill.ErrDamaged
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
