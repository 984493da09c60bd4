package extsort

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
