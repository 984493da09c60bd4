package extsort

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/base/ledger"
)

// ErrOrder means that a record comes before the previous one in an input that should be sorted.
var ErrOrder = errors.New("the input is not sorted")

// Presorted is an input of [Sorter.Merge]. Its records go to the merge in blocks, without being sorted.
type Presorted struct {
	s         *Sorter
	seq       int64
	maxRecord int
	full      chan []byte   // blocks for the merge, in the format of runs
	empty     chan []byte   // unused blocks
	ended     chan struct{} // closed after the last block was sent and err was set
	err       error

	block []byte       // the block being filled
	key   []byte       // the last key
	count ledger.Count // counts the records added

	current, stale []byte // the last two blocks that the merge has read; nil if the caller of nextBlock does not need them
}

const (
	presortedBlocks = 2  // number of blocks of an input: one is filled while the other is merged
	minOpenRuns     = 16 // minimum number of runs before some of them are merged early
)

// MergeOptions configures [Sorter.Merge].
type MergeOptions struct {
	Inputs    int // number of inputs
	Open      int // maximum number of inputs that are read at a time, at least 2
	Block     int // size of a block; each open input has two
	MaxRecord int // maximum size of a record with its key; if there are more than Open inputs, the limit of a sort applies too
	// Read adds the records of an input. Merge calls it for several inputs concurrently.
	Read func(input int, p *Presorted) error
}

// Merge replaces the writers of a sorter. It makes [Sorter.Sorted] merge inputs that are sorted already. Records with
// equal keys keep the order of the inputs. If there are more than Open inputs, Merge first merges groups of them to
// temporary files. The sorter must not keep keys.
func (s *Sorter) Merge(o MergeOptions) error {
	if o.Inputs <= o.Open {
		for i := range o.Inputs {
			s.presorted = append(s.presorted, s.startReading(o, i))
		}
		return nil
	}
	o.MaxRecord = min(o.MaxRecord, s.sizes.maxRecord) // so that several runs can be merged
	for first := 0; first < o.Inputs; first += o.Open {
		if err := s.mergeGroup(o, first, min(first+o.Open, o.Inputs)); err != nil {
			return s.Fail(err)
		}
		if runs := len(s.runs); runs >= max(o.Open, minOpenRuns) {
			if err := s.mergeSome(min(runs/2, s.readersPerSlot(s.runs)*maxSlots)); err != nil {
				return s.Fail(err)
			}
			s.releaseSlots() // free the memory for the next inputs
		}
	}
	return nil
}

// mergeGroup merges the inputs from first to end-1 to a run.
func (s *Sorter) mergeGroup(o MergeOptions, first, end int) error {
	r, err := s.newRun(int64(first))
	if err != nil {
		return err
	}
	r.passes = 1
	s.runs = append(s.runs, r) // Close closes it
	var cursors []*cursor
	for i := first; i < end; i++ {
		cursors = append(cursors, &cursor{reader: s.startReading(o, i)})
	}
	m, err := newMerger(cursors)
	if err == nil {
		err = s.fill(r, m.next)
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.stats.Runs++
	s.stats.Written += r.Size()
	return err
}

func (s *Sorter) startReading(o MergeOptions, input int) *Presorted {
	p := &Presorted{
		s: s, seq: int64(input), maxRecord: o.MaxRecord,
		full: make(chan []byte, presortedBlocks), empty: make(chan []byte, presortedBlocks), ended: make(chan struct{}),
	}
	for range presortedBlocks {
		p.empty <- make([]byte, 0, o.Block)
	}
	s.Tasks.Go(func() {
		defer close(p.ended)
		p.block = <-p.empty
		p.err = o.Read(input, p)
		if p.err == nil {
			p.err = p.send()
		}
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.stats.Records += p.count.Records
		s.stats.Bytes += p.count.Bytes
		s.stats.Sum.Add(p.count.Sum)
	})
	return p
}

// Work calls f, which may call Add. The number of calls that run at a time is limited to the sorter's threads, not
// counting calls in which Add waits for the merge.
func (p *Presorted) Work(f func() error) error {
	p.s.sortPermits <- struct{}{}
	defer func() { <-p.s.sortPermits }()
	return f()
}

// Add adds a copy of a record and its key. It may be called only within Work. If the key is smaller than the previous
// one, the error wraps [ErrOrder].
func (p *Presorted) Add(key, record []byte) error {
	size := len(key) + len(record) + 2*binary.MaxVarintLen64
	if len(key)+len(record) > p.maxRecord {
		return fmt.Errorf("%w: it has %d bytes with its key, but the limit is %d for each input of this merge", ErrTooLarge, len(key)+len(record), p.maxRecord)
	}
	order := 1
	if p.count.Records > 0 {
		order = bytes.Compare(key, p.key)
	}
	if order < 0 {
		return ErrOrder
	}
	if len(p.block) > 0 && len(p.block)+size > cap(p.block) {
		<-p.s.sortPermits
		err := p.send()
		p.s.sortPermits <- struct{}{}
		if err != nil {
			return err
		}
	}
	if order > 0 {
		p.key = append(p.key[:0], key...)
	}
	p.block = appendRecord(slices.Grow(p.block, size), key, record, order == 0)
	p.count.Records++
	p.count.Bytes += int64(len(record))
	p.count.Sum.AddRecord(record)
	return nil
}

// send passes the block to the merge and waits for an empty block.
func (p *Presorted) send() error {
	if len(p.block) == 0 {
		return nil
	}
	p.full <- p.block // never blocks, because the channel has room for all blocks
	select {
	case p.block = <-p.empty:
		return nil
	case <-p.s.Ctx.Done():
		return p.s.Err()
	}
}

// nextBlock implements blockReader.
func (p *Presorted) nextBlock() ([]byte, error) {
	p.stale = p.current
	p.current = nil
	select {
	case p.current = <-p.full:
		return p.current, nil
	case <-p.ended:
	}
	select {
	case p.current = <-p.full: // the last block
		return p.current, nil
	default:
		return nil, p.err
	}
}

// fetchNext implements blockReader.
func (p *Presorted) fetchNext() {
	if p.stale != nil {
		p.empty <- p.stale[:0] // never blocks, because the channel has room for all blocks
	}
}
