package extsort

import (
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/engine/spill"
)

func (s *Sorter) addBuffer(w *Writer) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for s.ErrLocked() == nil && w.ordered && s.nextBatch != w.batch {
		s.Cond.Wait()
	}
	for s.ErrLocked() == nil && (s.current == nil || !s.current.hasRoom(len(w.buf), w.records)) {
		switch {
		case s.current == nil:
			s.nextSlot() // waits without holding Mu, so current must be checked again
		case s.current.records == 0:
			return fmt.Errorf("%w: %d bytes do not fit in a slot of %d bytes", ErrTooLarge, len(w.buf), len(s.current.mem))
		default:
			s.sortCurrent()
		}
	}
	if err := s.ErrLocked(); err != nil {
		return err
	}
	m := s.current
	copy(m.mem[m.used:], w.buf)
	m.used += len(w.buf)
	m.records += w.records
	s.stats.Records += w.count.Records
	s.stats.Bytes += w.count.Bytes
	s.stats.Sum.Add(w.count.Sum)
	return nil
}

// nextSlot sets current to a free slot. If no slot is free, it waits for a change (on Cond) and leaves
// current nil; the caller must try again. Mu must be held.
func (s *Sorter) nextSlot() {
	if s.merging {
		s.Cond.Wait()
		return
	}
	// If there are too many runs for a single merge at the end, merge some of them now.
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
	s.current = s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.current.seq = s.seq
	s.seq++
	s.keepSlotsFree()
}

// mergeEarly writes all slots to files to free their memory and then merges n of the runs in the
// background. Each call takes one step and waits for a change (on Cond). Mu must be held, and
// current must be nil.
func (s *Sorter) mergeEarly(n int) {
	switch {
	case len(s.sorted) > 0:
		s.spillOldest()
	case s.sortingCount+s.spillCount == 0:
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

// sortCurrent sorts the current slot in the background. Mu must be held.
func (s *Sorter) sortCurrent() {
	m := s.current
	s.current = nil
	s.sortingCount++
	s.Tasks.Go(func() {
		s.sortPermits <- struct{}{}
		if s.Ctx.Err() == nil {
			m.sort()
		}
		<-s.sortPermits
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.sortingCount--
		s.sorted = append(s.sorted, m)
		s.keepSlotsFree()
		s.Cond.Broadcast()
	})
}

const minFreeSlots = 2

// keepSlotsFree writes sorted slots to files until minFreeSlots are free or being freed, so that
// writers rarely wait for a slot. Mu must be held.
func (s *Sorter) keepSlotsFree() {
	for !s.Reading && s.ErrLocked() == nil && len(s.sorted) > 0 &&
		maxSlots-len(s.slots)+len(s.free)+s.spillCount < minFreeSlots {
		s.spillOldest()
	}
}

// spillOldest writes the oldest sorted slot to a file in the background. Mu must be held.
func (s *Sorter) spillOldest() {
	m := slices.MinFunc(s.sorted, func(a, b *slot) int { return int(a.seq - b.seq) })
	s.sorted = slices.DeleteFunc(s.sorted, func(o *slot) bool { return o == m })
	s.spillCount++
	s.Tasks.Go(func() {
		r, err := s.writeSlot(m)
		s.Mu.Lock()
		defer s.Mu.Unlock()
		s.spillCount--
		if r != nil { // even after an error, because Close closes all runs in s.runs
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

// writeSlot writes a sorted slot to a run, which the caller must close even after an error.
func (s *Sorter) writeSlot(m *slot) (*run, error) {
	r, err := s.newRun(m.seq)
	if err != nil {
		return nil, err
	}
	c := cursor{slot: m}
	return r, s.fill(r, func() (*head, bool, error) {
		if err := c.next(); err != nil || c.common == noRecord {
			return nil, false, err
		}
		return &c.head, c.common == wholeKey, nil
	})
}
