package extsort

import (
	"encoding/binary"

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
