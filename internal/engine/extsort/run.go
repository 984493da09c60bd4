package extsort

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/engine/spill"
)

// run is a temporary file of sorted records.
type run struct {
	*spill.File
	seq    int64 // seq of the first slot whose records the file contains
	passes int   // maximum number of times that a record was merged
}

func (s *Sorter) newRun(seq int64) (*run, error) {
	f, err := spill.Create(s.Temp, "sorted records", s.sizes.block)
	if err != nil {
		return nil, err
	}
	f.Quota = &spill.Process
	return &run{File: f, seq: seq}, nil
}

// add adds a record to the run: first a number whose upper bits are the record's length, and whose
// lowest bit is 1 if the key is omitted; then, unless omitted, the key's length and the key; then
// the record. sameKey means that the previous record has the same key, so the key can be omitted.
func (r *run) add(h *head, sameKey bool) error {
	if err := r.Room(len(h.key) + len(h.rec) + 2*binary.MaxVarintLen64); err != nil {
		return err
	}
	r.Buf = appendRecord(r.Buf, h.key, h.rec, sameKey)
	return nil
}

// appendRecord appends a record in the format that run.add describes. An empty block begins with a record that includes
// its key, so that blocks can be read separately.
func appendRecord(block, key, rec []byte, sameKey bool) []byte {
	if sameKey && len(block) > 0 {
		block = binary.AppendUvarint(block, uint64(len(rec))<<1|1)
	} else {
		block = binary.AppendUvarint(block, uint64(len(rec))<<1)
		block = binary.AppendUvarint(block, uint64(len(key)))
		block = append(block, key...)
	}
	return append(block, rec...)
}

// fill adds the records that next returns to r. It finishes r when next returns nil.
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
			blocks = r.Blocks()
			if s.Ctx.Err() != nil {
				return s.Err()
			}
		}
	}
}

// runReader reads the blocks in a run in order. It reads the next block in the background.
type runReader struct {
	s         *Sorter
	run       *run
	bufs      [2][]byte // one holds the current block, the other receives the next one
	requested int       // number of blocks that fetchNext has started to read
	returned  int       // number of blocks that nextBlock has returned
	ready     chan readResult
}

type readResult struct {
	block []byte
	err   error
}

func (s *Sorter) newReader(r *run, bufs [2][]byte) *runReader {
	rr := &runReader{s: s, run: r, bufs: bufs, ready: make(chan readResult, 1)}
	rr.fetchNext()
	return rr
}

func (r *runReader) fetchNext() {
	if i := r.requested; i < r.run.Blocks() {
		r.requested++
		r.s.Tasks.Go(func() {
			r.s.readLock.Lock()
			block, err := r.run.Read(r.bufs[i%2], i, 1)
			r.ready <- readResult{block, err} // never blocks, because only one block at a time is read ahead
			r.s.readLock.Unlock()
			// Freeing disk space can be slow. If another goroutine is doing it, do not wait, because
			// a later call will also free these blocks.
			if r.s.dropLock.TryLock() {
				r.run.Drop(i + 1)
				r.s.dropLock.Unlock()
			}
		})
	}
}

// nextBlock implements blockReader.
func (r *runReader) nextBlock() ([]byte, error) {
	if r.returned == r.run.Blocks() {
		return nil, nil
	}
	result := <-r.ready
	r.returned++
	return result.block, result.err
}

// reduceRuns makes sure that all runs can be merged together in memory. To free memory, it writes
// slots to files. If that is not enough, it merges some of the runs.
func (s *Sorter) reduceRuns() error {
	for len(s.runs) > s.readersPerSlot(s.runs)*(maxSlots-len(s.sorted)) {
		s.Mu.Lock()
		if len(s.sorted) > 0 {
			s.spillOldest()
			for s.ErrLocked() == nil && s.spillCount > 0 {
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

// readersPerSlot returns the number of runs whose read buffers, two each, fit in one slot. The
// result is at least 1, because even the longest block that a run can have fits twice in a slot.
func (s *Sorter) readersPerSlot(runs []*run) int {
	largest := 1
	for _, r := range runs {
		largest = max(largest, r.Longest())
	}
	return s.sizes.slot / (2 * largest)
}

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

func (s *Sorter) mergeSome(n int) error {
	if n < 2 {
		return fmt.Errorf("cannot merge %d of %d runs", n, len(s.runs))
	}
	first := spill.ShortestNeighbors(s.runs, n)
	chosen := slices.Clone(s.runs[first : first+n])
	merged, err := s.mergeRuns(chosen)
	if merged == nil {
		return err
	}
	if err != nil {
		s.runs = append(s.runs, merged) // Close closes all runs in s.runs
		return err
	}
	s.runs = slices.Replace(s.runs, first, first+n, merged)
	s.Mu.Lock()
	s.stats.Runs++
	s.stats.Written += merged.Size()
	s.Mu.Unlock()
	s.dropLock.Lock() // closing a file must not overlap with freeing its disk space
	defer s.dropLock.Unlock()
	for _, r := range chosen {
		err = errors.Join(err, r.Close())
	}
	return err
}

// mergeRuns merges runs into a new run, which the caller must close even after an error.
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
		cursors = append(cursors, &cursor{reader: s.newReader(r, bufs[i])})
		merged.passes = max(merged.passes, r.passes+1)
	}
	m, err := newMerger(cursors)
	if err != nil {
		return merged, err
	}
	return merged, s.fill(merged, m.next)
}
