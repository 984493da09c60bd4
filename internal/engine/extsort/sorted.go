package extsort

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/base/ledger"
)

// Block is a sequence of sorted records.
type Block struct {
	// Data is the concatenation of all records. With KeepKeys, the length of its key (a uvarint) and
	// its key precede each record.
	Data    []byte
	ends    []uint64 // for each record: twice the offset of its end in Data, plus one if SameKey
	hasKeys bool
}

const maxBlockRecords = 1 << 16

// Len returns the number of records.
func (b *Block) Len() int { return len(b.ends) }

// Record returns the record with index i.
func (b *Block) Record(i int) []byte {
	item := b.item(i)
	if b.hasKeys {
		n, l := uvarint(item)
		return item[l+n:]
	}
	return item
}

// Key returns the key of record i, or nil without KeepKeys.
func (b *Block) Key(i int) []byte {
	if !b.hasKeys {
		return nil
	}
	item := b.item(i)
	n, l := uvarint(item)
	return item[l : l+n]
}

// SameKey reports whether record i has the same key as the record before it, which can be in the
// previous block. SameKey is false for the very first record.
func (b *Block) SameKey(i int) bool { return b.ends[i]&1 != 0 }

func (b *Block) item(i int) []byte {
	from := uint64(0)
	if i > 0 {
		from = b.ends[i-1] >> 1
	}
	to := b.ends[i] >> 1
	return b.Data[from:to:to]
}

// isFull reports whether a record of the given size does not fit. Any record fits in an empty
// block.
func (b *Block) isFull(bytes int) bool {
	return len(b.ends) == maxBlockRecords || len(b.ends) > 0 && len(b.Data)+bytes > cap(b.Data)
}

func (b *Block) add(h *head, sameKey bool) {
	if b.hasKeys {
		b.Data = binary.AppendUvarint(b.Data, uint64(len(h.key)))
		b.Data = append(b.Data, h.key...)
	}
	b.Data = append(b.Data, h.rec...)
	end := uint64(len(b.Data)) << 1
	if sameKey {
		end |= 1
	}
	b.ends = append(b.ends, end)
}

// AppendRange appends copies of from's records first to end-1.
func (b *Block) AppendRange(from *Block, first, end int) {
	b.hasKeys = from.hasKeys
	for i := first; i < end; i++ {
		b.Data = append(b.Data, from.item(i)...)
		b.ends = append(b.ends, uint64(len(b.Data))<<1|from.ends[i]&1)
	}
}

// Reset removes all records.
func (b *Block) Reset() { b.Data, b.ends = b.Data[:0], b.ends[:0] }

func (b *Block) count() ledger.Count {
	c := ledger.Count{Records: int64(len(b.ends))}
	for i := range b.ends {
		item := b.item(i)
		c.Sum.AddRecord(item)
		c.Bytes += int64(len(item))
		if b.hasKeys {
			n, l := uvarint(item)
			c.Bytes -= int64(l + n)
		}
	}
	return c
}

// Sorted yields all records in order. All writers must be closed. A block is valid until the next
// iteration. Sorted can be ranged over only once. After the last block, it yields an error if the
// record count or checksum of the output differs from that of the input.
func (s *Sorter) Sorted() iter.Seq2[*Block, error] { return s.First(math.MaxInt64) }

// First is like Sorted, but yields only the first n records. It also reads the others, to verify them.
func (s *Sorter) First(n int64) iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) {
		cursors, err := s.prepare()
		if err != nil {
			_ = s.Fail(err) // stops the sorter
			yield(nil, err)
			return
		}
		out := s.startMerge(cursors)
		defer close(out.stop)
		var output ledger.Count
		for b := range out.full {
			output.Add(b.count())
			b.ends = b.ends[:min(n, int64(len(b.ends)))]
			n -= int64(len(b.ends))
			if len(b.ends) > 0 && !yield(b, nil) {
				return
			}
			b.Data, b.ends = b.Data[:0], b.ends[:0]
			if cap(b.Data) > s.sizes.buffer { // grown for a long record
				b.Data = nil
			}
			out.empty <- b // never blocks, because the channel has room for all blocks
		}
		if err := s.checkOutput(output); err != nil {
			yield(nil, err)
		}
	}
}

// checkOutput returns an error if the complete output differs from the input.
func (s *Sorter) checkOutput(output ledger.Count) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if err := s.ErrLocked(); err != nil {
		return err
	}
	return ledger.Count{Records: s.stats.Records, Bytes: s.stats.Bytes, Sum: s.stats.Sum}.Compare(output)
}

// prepare waits until all records are sorted. It returns cursors over them, in input order.
func (s *Sorter) prepare() ([]*cursor, error) {
	if err := s.finish(); err != nil {
		return nil, err
	}
	if err := s.reduceRuns(); err != nil {
		return nil, err
	}
	bufs, err := s.readBuffers(s.runs)
	if err != nil {
		return nil, err
	}
	var cursors []*cursor
	for _, m := range s.sorted {
		cursors = append(cursors, &cursor{slot: m, seq: m.seq})
	}
	passes := 0
	for i, r := range s.runs {
		cursors = append(cursors, &cursor{reader: s.newReader(r, bufs[i]), seq: r.seq})
		passes = max(passes, r.passes)
	}
	for _, p := range s.presorted {
		cursors = append(cursors, &cursor{reader: p, seq: p.seq})
	}
	slices.SortFunc(cursors, func(a, b *cursor) int { return int(a.seq - b.seq) })
	s.Mu.Lock()
	s.stats.Passes = passes + 1
	s.Mu.Unlock()
	return cursors, nil
}

func (s *Sorter) finish() error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if err := s.StartReading(); err != nil {
		return err
	}
	if s.current != nil {
		s.sortCurrent()
	}
	for s.ErrLocked() == nil && s.sortingCount+s.spillCount > 0 {
		s.Cond.Wait()
	}
	return s.ErrLocked()
}

// output connects the goroutine that merges with the loop over Sorted.
type output struct {
	empty, full chan *Block
	stop        chan struct{} // closed when the loop ends, to stop the merge
}

// startMerge merges cursors in the background and sends the blocks to output.full. At the end, it
// closes output.full. After an error, it first calls Fail.
func (s *Sorter) startMerge(cursors []*cursor) *output {
	out := &output{empty: make(chan *Block, outputBlocks), full: make(chan *Block, outputBlocks), stop: make(chan struct{})}
	for range outputBlocks {
		out.empty <- &Block{hasKeys: s.opts.KeepKeys}
	}
	s.Tasks.Go(func() {
		defer close(out.full)
		if err := s.mergeInto(cursors, out); err != nil {
			_ = s.Fail(err) // stops the sorter
		}
	})
	return out
}

// mergeInto merges cursors into blocks until the end or until out.stop is closed.
func (s *Sorter) mergeInto(cursors []*cursor, out *output) error {
	m, err := newMerger(cursors)
	if err != nil {
		return err
	}
	var b *Block
	for {
		h, sameKey, err := m.next()
		if err != nil {
			return err
		}
		if b != nil && (h == nil || b.isFull(len(h.key)+len(h.rec)+10)) { // 10 bytes suffice for the key's length
			out.full <- b // never blocks, because the channel has room for all blocks
			b = nil
		}
		if h == nil {
			return nil
		}
		if b == nil {
			select {
			case b = <-out.empty:
			case <-out.stop:
				return nil
			case <-s.Ctx.Done():
				return nil // the cause is already recorded as the sorter's error
			}
			if b.Data == nil {
				b.Data = make([]byte, 0, s.sizes.buffer)
			}
		}
		b.add(h, sameKey)
	}
}
