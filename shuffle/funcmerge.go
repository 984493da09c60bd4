package shuffle

import (
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/spill"
)

// funcMerger merges the sorted records of several cursors, with a heap. It yields equal records in
// the order of their cursors.
type funcMerger[T any] struct {
	s       *FuncSorter[T]
	heap    []mergeItem[T]
	v       T      // current record
	encoded []byte // encoding of the current record
	started bool
	steps   int
	err     error
}

type mergeItem[T any] struct {
	c           *funcCursor[T]
	cursorIndex int
}

// newMerger returns a merger of runs, which are files of sorted records. If includeMemory is set,
// the merger also merges the records in memory.
func (s *FuncSorter[T]) newMerger(runs []*spill.File, includeMemory bool) (*funcMerger[T], error) {
	m := &funcMerger[T]{s: s}
	for i, r := range runs {
		m.heap = append(m.heap, mergeItem[T]{&funcCursor[T]{codec: s.codec, run: r}, i})
	}
	if includeMemory {
		m.heap = append(m.heap, mergeItem[T]{&funcCursor[T]{codec: s.codec, memRecords: s.memRecords, data: s.encoded}, len(runs)})
	}
	n := 0
	for _, item := range m.heap {
		ok, err := item.c.next()
		if err != nil {
			return nil, err
		}
		if ok {
			m.heap[n] = item
			n++
		}
	}
	m.heap = m.heap[:n]
	for i := n/2 - 1; i >= 0; i-- {
		m.siftDown(i)
	}
	return m, nil
}

// next advances to the next record. It returns false at the end or after an error.
func (m *funcMerger[T]) next() bool {
	if m.steps++; m.steps%1024 == 0 {
		if m.err = canceled.Err(m.s.engine.Ctx); m.err != nil {
			return false
		}
	}
	if m.started {
		ok, err := m.heap[0].c.next()
		if err != nil {
			m.err = err
			return false
		}
		if !ok {
			last := len(m.heap) - 1
			m.heap[0] = m.heap[last]
			m.heap = m.heap[:last]
		}
		m.siftDown(0)
	}
	m.started = true
	if len(m.heap) == 0 {
		return false
	}
	m.v, m.encoded = m.heap[0].c.v, m.heap[0].c.encoded
	return true
}

func (m *funcMerger[T]) less(a, b mergeItem[T]) bool {
	if d := m.s.compare(a.c.v, b.c.v); d != 0 {
		return d < 0
	}
	return a.cursorIndex < b.cursorIndex
}

func (m *funcMerger[T]) siftDown(i int) {
	for {
		child := 2*i + 1
		if child >= len(m.heap) {
			return
		}
		if child+1 < len(m.heap) && m.less(m.heap[child+1], m.heap[child]) {
			child++
		}
		if !m.less(m.heap[child], m.heap[i]) {
			return
		}
		m.heap[i], m.heap[child] = m.heap[child], m.heap[i]
		i = child
	}
}

// funcBlock is the size of a run's blocks in bytes, unless a record is longer. In a block, the length
// of each record precedes the record, as a uvarint.
const funcBlock = 64 << 10

func addToRun(f *spill.File, record []byte) error {
	if err := f.Room(len(record) + binary.MaxVarintLen64); err != nil {
		return err
	}
	f.Buf = append(binary.AppendUvarint(f.Buf, uint64(len(record))), record...)
	return nil
}

// funcCursor reads the records of a run, or the records in memory.
type funcCursor[T any] struct {
	v       T
	encoded []byte

	codec      encode.ValueCodec[T]
	run        *spill.File
	blocksRead int
	block      []byte
	unread     []byte // unread bytes of block

	memRecords []memRecord[T]
	data       []byte // encodings of memRecords
}

// next advances to the next record. It returns false at the end.
func (c *funcCursor[T]) next() (ok bool, err error) {
	if c.run == nil {
		if len(c.memRecords) == 0 {
			return false, nil
		}
		h := &c.memRecords[0]
		c.v, c.encoded, c.memRecords = h.record, c.data[h.from:h.to], c.memRecords[1:]
		return true, nil
	}
	if len(c.unread) == 0 {
		if c.blocksRead == c.run.Blocks() {
			return false, nil
		}
		if c.block, err = c.run.Read(c.block, c.blocksRead, 1); err != nil {
			return false, err
		}
		c.unread = c.block
		c.blocksRead++
	}
	if c.encoded, c.unread, err = cut(c.unread); err != nil {
		return false, spill.ErrDamaged
	}
	if c.v, err = c.codec.Decode(c.encoded); err != nil {
		return false, fmt.Errorf("decoding a record: %w", err)
	}
	return true, nil
}
