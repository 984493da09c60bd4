package extsort

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/spill"
)

// reduce sees to it that what is in files can be merged at once: it frees
// memory for reading by writing slots out, and where all memory is not enough,
// it merges some runs into one.
func (s *Sorter) reduce() error {
	for len(s.runs) > s.readersPerSlot(s.runs)*(maxSlots-len(s.sorted)) {
		s.Mu.Lock()
		if len(s.sorted) > 0 {
			s.spillOne()
			for s.Failure() == nil && s.spills > 0 {
				s.Cond.Wait()
			}
			err := s.Failure()
			s.Mu.Unlock()
			if err != nil {
				return err
			}
			continue
		}
		s.Mu.Unlock()
		most := s.readersPerSlot(s.runs) * maxSlots
		if err := s.mergeSome(min(most, len(s.runs)-most+1)); err != nil {
			return err
		}
	}
	return nil
}

// readersPerSlot is how many runs can be read with the memory of a slot, each
// with two buffers. It is one at least, by the limit for the length of records.
func (s *Sorter) readersPerSlot(runs []*run) int {
	largest := 1
	for _, r := range runs {
		largest = max(largest, r.Longest())
	}
	return s.sizes.slot / (2 * largest)
}

// readBuffers divides slots that are not in use into buffers for reading runs.
func (s *Sorter) readBuffers(runs []*run) ([][2][]byte, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	perSlot := s.readersPerSlot(runs)
	size := s.sizes.slot / (2 * perSlot)
	bufs := make([][2][]byte, len(runs))
	for i := range runs {
		n := i / perSlot
		if n == len(s.free) {
			if err := s.addSlot(); err != nil {
				return nil, err
			}
		}
		mem := s.free[n].mem[i%perSlot*2*size:]
		bufs[i] = [2][]byte{mem[:size:size], mem[size : 2*size : 2*size]}
	}
	return bufs, nil
}

// mergeSome merges n neighbouring runs, the shortest ones.
func (s *Sorter) mergeSome(n int) error {
	if n < 2 {
		return fmt.Errorf("merging %d of %d runs", n, len(s.runs))
	}
	best := spill.Shortest(s.runs, n)
	some := slices.Clone(s.runs[best : best+n])
	merged, err := s.mergeRuns(some)
	if merged == nil {
		return err
	}
	if err != nil {
		s.runs = append(s.runs, merged) // for Close
		return err
	}
	s.runs = slices.Replace(s.runs, best, best+n, merged)
	s.Mu.Lock()
	s.stats.Runs++
	s.stats.Written += merged.Size()
	s.Mu.Unlock()
	s.drop.Lock() // a file that is closed while a part of it is given back might be another by then
	defer s.drop.Unlock()
	for _, r := range some {
		err = errors.Join(err, r.Close())
	}
	return err
}

// mergeRuns merges runs into a new one. What it returns beside an error is to
// be closed.
func (s *Sorter) mergeRuns(runs []*run) (*run, error) {
	merged, err := s.newRun(runs[0].seq)
	if err != nil {
		return nil, err
	}
	bufs, err := s.readBuffers(runs)
	if err != nil {
		return merged, err
	}
	var cursors []*cursor
	for i, r := range runs {
		cursors = append(cursors, &cursor{r: s.newReader(r, bufs[i])})
		merged.passes = max(merged.passes, r.passes+1)
	}
	m, err := newMerger(cursors)
	if err != nil {
		return merged, err
	}
	return merged, s.fill(merged, m.next)
}
