package extsort

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/spill"
)

// run is a file of sorted records.
type run struct {
	*spill.File
	seq    int64 // of the first slot in it
	passes int   // merges that its records went through
}

func (s *Sorter) newRun(seq int64) (*run, error) {
	f, err := spill.Create(s.Temp, "sorted records", s.sizes.block)
	if err != nil {
		return nil, err
	}
	return &run{File: f, seq: seq}, nil
}

// add adds a record. same says that its key is that of the record before.
func (r *run) add(h *head, same bool) error {
	if err := r.Room(len(h.key) + len(h.rec) + 2*binary.MaxVarintLen64); err != nil {
		return err
	}
	// A block does not need the one before it.
	if same && len(r.Buf) > 0 {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1|1)
	} else {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1)
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.key)))
		r.Buf = append(r.Buf, h.key...)
	}
	r.Buf = append(r.Buf, h.rec...)
	return nil
}

// fill adds the records that next returns, up to nil.
func (s *Sorter) fill(r *run, next func() (*head, bool, error)) error {
	for blocks := 0; ; {
		h, same, err := next()
		if err != nil {
			return err
		}
		if h == nil {
			return r.Finish()
		}
		if err := r.add(h, same); err != nil {
			return err
		}
		if r.Blocks() != blocks {
			if blocks = r.Blocks(); s.Ctx.Err() != nil {
				return s.Why()
			}
		}
	}
}

// runReader reads the blocks of a run one after the other, with one read ahead in
// the background.
type runReader struct {
	s     *Sorter
	run   *run
	bufs  [2][]byte // the one in use and the one read into
	asked int       // blocks asked for
	got   int       // blocks handed out
	ready chan fetched
}

type fetched struct {
	block []byte
	err   error
}

func (s *Sorter) newReader(r *run, bufs [2][]byte) *runReader {
	rr := &runReader{s: s, run: r, bufs: bufs, ready: make(chan fetched, 1)}
	rr.ask()
	return rr
}

// ask has the next block read, if there is one.
func (r *runReader) ask() {
	if i := r.asked; i < r.run.Blocks() {
		r.asked++
		r.s.Tasks.Go(func() {
			r.s.disk.Lock()
			block, err := r.run.Read(r.bufs[i%2], i, 1)
			r.ready <- fetched{block, err} // one at most is under way
			r.s.disk.Unlock()
			// The file system may take its time. Nobody waits: who comes later drops more.
			if r.s.drop.TryLock() {
				r.run.Drop(i + 1)
				r.s.drop.Unlock()
			}
		})
	}
}

// nextBlock returns the next block, nil after the last. It is valid until the next call but
// one of ask, which follows when the block before is not needed any more.
func (r *runReader) nextBlock() ([]byte, error) {
	if r.got == r.run.Blocks() {
		return nil, nil
	}
	f := <-r.ready
	r.got++
	return f.block, f.err
}

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
