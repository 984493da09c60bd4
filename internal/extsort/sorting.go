package extsort

import (
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/spill"
)

// receive copies a writer's buffer into the current slot.
func (s *Sorter) receive(w *Writer) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for s.ErrLocked() == nil && w.ordered && s.nextBatch != w.batch {
		s.Cond.Wait()
	}
	for s.ErrLocked() == nil && (s.filling == nil || !s.filling.hasRoom(len(w.buf), w.records)) {
		switch {
		case s.filling == nil:
			s.nextSlot() // it may wait, and another writer may be faster
		case s.filling.records == 0:
			return fmt.Errorf("%w: %d bytes do not fit in %d", ErrTooLarge, len(w.buf), len(s.filling.mem))
		default:
			s.sortFilling()
		}
	}
	if err := s.ErrLocked(); err != nil {
		return err
	}
	m := s.filling
	copy(m.mem[m.used:], w.buf)
	m.used += len(w.buf)
	m.records += w.records
	s.stats.Records += w.count.Records
	s.stats.Bytes += w.count.Bytes
	s.stats.Sum.Add(w.count.Sum)
	return nil
}

// nextSlot gets a slot to fill, or waits for a change. Mu must be held.
func (s *Sorter) nextSlot() {
	if s.merging {
		s.Cond.Wait()
		return
	}
	// Merging now costs little more than at the end, unless all runs could be read together then.
	if n := spill.EarlyMerge(s.runs, s.readersPerSlot(s.runs)*maxSlots); n > 0 {
		s.mergeEarly(n)
		return
	}
	switch {
	case len(s.free) > 0:
	case len(s.slots) < maxSlots:
		if err := s.addSlot(); err != nil {
			s.FailLocked(err)
			return
		}
	default:
		s.Cond.Wait()
		return
	}
	s.filling = s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.filling.seq = s.seq
	s.seq++
	s.spillAhead()
}

// mergeEarly frees all memory, merges n of the runs in the background, and waits for a
// change. Mu must be held, and no slot may be being filled.
func (s *Sorter) mergeEarly(n int) {
	switch {
	case len(s.sorted) > 0:
		s.spillOne()
	case s.sorting+s.spills == 0:
		s.merging = true
		s.Tasks.Go(func() {
			err := s.mergeSome(n)
			s.Mu.Lock()
			defer s.Mu.Unlock()
			s.merging = false
			if err != nil {
				s.FailLocked(err)
			}
			s.Cond.Broadcast()
		})
	}
	s.Cond.Wait()
}

// sortFilling sorts the current slot in the background. Mu must be held.
func (s *Sorter) sortFilling() {
	m := s.filling
	s.filling = nil
	s.sorting++
	s.Tasks.Go(func() {
		s.cpu <- struct{}{}
		if s.Ctx.Err() == nil {
			m.sort()
		}
		<-s.cpu
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.sorting--
		s.sorted = append(s.sorted, m)
		s.spillAhead()
		s.Cond.Broadcast()
	})
}

// aheadSlots is the number of slots kept free, or being freed, while there is more input.
const aheadSlots = 2

// spillAhead writes slots to files so that the next ones find memory. Mu must be held.
func (s *Sorter) spillAhead() {
	for !s.Reading && s.ErrLocked() == nil && len(s.sorted) > 0 &&
		maxSlots-len(s.slots)+len(s.free)+s.spills < aheadSlots {
		s.spillOne()
	}
}

// spillOne writes the sorted slot that was filled first, in the background. Mu must be
// held.
func (s *Sorter) spillOne() {
	m := slices.MinFunc(s.sorted, func(a, b *slot) int { return int(a.seq - b.seq) })
	s.sorted = slices.DeleteFunc(s.sorted, func(o *slot) bool { return o == m })
	s.spills++
	s.Tasks.Go(func() {
		r, err := s.writeSlot(m)
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.spills--
		if r != nil { // even after an error, so that Close closes it
			i, _ := slices.BinarySearchFunc(s.runs, r.seq, func(o *run, seq int64) int { return int(o.seq - seq) })
			s.runs = slices.Insert(s.runs, i, r)
			s.stats.Runs++
			s.stats.Written += r.Size()
		}
		if err != nil {
			s.FailLocked(err)
		}
		m.used, m.records, m.entries = 0, 0, nil
		s.free = append(s.free, m)
		s.Cond.Broadcast()
	})
}

// writeSlot writes a sorted slot to a file. The caller must close the returned run even if
// there is an error.
func (s *Sorter) writeSlot(m *slot) (*run, error) {
	r, err := s.newRun(m.seq)
	if err != nil {
		return nil, err
	}
	c := cursor{m: m}
	return r, s.fill(r, func() (*head, bool, error) {
		if err := c.next(); err != nil || c.common == ended {
			return nil, false, err
		}
		return &c.head, c.common == wholeKey, nil
	})
}
