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
	seq    int64 // seq of its first slot
	passes int   // number of merges of its records
}

func (s *Sorter) newRun(seq int64) (*run, error) {
	f, err := spill.Create(s.Temp, "sorted records", s.sizes.block)
	if err != nil {
		return nil, err
	}
	return &run{File: f, seq: seq}, nil
}

// add adds a record. sameKey means that its key equals the previous one.
func (r *run) add(h *head, sameKey bool) error {
	if err := r.Room(len(h.key) + len(h.rec) + 2*binary.MaxVarintLen64); err != nil {
		return err
	}
	// The first record of a block contains its key, so that a reader needs no earlier block.
	if sameKey && len(r.Buf) > 0 {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1|1)
	} else {
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.rec))<<1)
		r.Buf = binary.AppendUvarint(r.Buf, uint64(len(h.key)))
		r.Buf = append(r.Buf, h.key...)
	}
	r.Buf = append(r.Buf, h.rec...)
	return nil
}

// fill adds the records that next returns, until it returns nil.
func (s *Sorter) fill(r *run, next func() (*head, bool, error)) error {
	for blocks := 0; ; {
		h, sameKey, err := next()
		if err != nil {
			return err
		}
		if h == nil {
			return r.Finish()
		}
		if err := r.add(h, sameKey); err != nil {
			return err
		}
		if r.Blocks() != blocks {
			if blocks = r.Blocks(); s.Ctx.Err() != nil {
				return s.Err()
			}
		}
	}
}

// runReader reads the blocks of a run in order. It reads the next block in the background.
type runReader struct {
	s         *Sorter
	run       *run
	bufs      [2][]byte // one is in use, the other is being read into
	requested int       // blocks requested
	got       int       // blocks returned
	ready     chan fetched
}

type fetched struct {
	block []byte
	err   error
}

func (s *Sorter) newReader(r *run, bufs [2][]byte) *runReader {
	rr := &runReader{s: s, run: r, bufs: bufs, ready: make(chan fetched, 1)}
	rr.fetchNext()
	return rr
}

// fetchNext starts to read the next block, if there is one.
func (r *runReader) fetchNext() {
	if i := r.requested; i < r.run.Blocks() {
		r.requested++
		r.s.Tasks.Go(func() {
			r.s.disk.Lock()
			block, err := r.run.Read(r.bufs[i%2], i, 1)
			r.ready <- fetched{block, err} // does not block, because only one read is in progress
			r.s.disk.Unlock()
			// Freeing disk space may be slow. Nobody waits: a later call frees more.
			if r.s.drop.TryLock() {
				r.run.Drop(i + 1)
				r.s.drop.Unlock()
			}
		})
	}
}

// nextBlock returns the next block, or nil after the last one. A block is valid until the
// second call of fetchNext after it. The caller must call fetchNext when it no longer needs
// the previous block.
func (r *runReader) nextBlock() ([]byte, error) {
	if r.got == r.run.Blocks() {
		return nil, nil
	}
	f := <-r.ready
	r.got++
	return f.block, f.err
}

// reduceRuns makes sure that all runs can be merged at the same time. It writes slots to files
// to free memory for reading. If that is not enough, it merges some runs into one.
func (s *Sorter) reduceRuns() error {
	for len(s.runs) > s.readersPerSlot(s.runs)*(maxSlots-len(s.sorted)) {
		s.Mu.Lock()
		if len(s.sorted) > 0 {
			s.spillOne()
			for s.ErrLocked() == nil && s.spills > 0 {
				s.Cond.Wait()
			}
			err := s.ErrLocked()
			s.Mu.Unlock()
			if err != nil {
				return err
			}
			continue
		}
		s.Mu.Unlock()
		limit := s.readersPerSlot(s.runs) * maxSlots
		if err := s.mergeSome(min(limit, len(s.runs)-limit+1)); err != nil {
			return err
		}
	}
	return nil
}

// readersPerSlot returns the number of runs that can be read with the memory of one slot,
// with two buffers each. The limit for the length of records makes it at least 1.
func (s *Sorter) readersPerSlot(runs []*run) int {
	largest := 1
	for _, r := range runs {
		largest = max(largest, r.Longest())
	}
	return s.sizes.slot / (2 * largest)
}

// readBuffers divides unused slots into buffers for reading runs.
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

// mergeSome merges n neighboring runs. It chooses the shortest.
func (s *Sorter) mergeSome(n int) error {
	if n < 2 {
		return fmt.Errorf("merging %d of %d runs", n, len(s.runs))
	}
	best := spill.ShortestNeighbors(s.runs, n)
	chosen := slices.Clone(s.runs[best : best+n])
	merged, err := s.mergeRuns(chosen)
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
	s.drop.Lock() // no file may be closed while its disk space is being freed
	defer s.drop.Unlock()
	for _, r := range chosen {
		err = errors.Join(err, r.Close())
	}
	return err
}

// mergeRuns merges runs into a new one. The caller must close the returned run even if
// there is an error.
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
