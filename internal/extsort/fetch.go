package extsort

// runReader reads the blocks of a run one after the other, with one read ahead
// by the fetcher.
type runReader struct {
	run     *run
	fetcher *fetcher
	bufs    [2][]byte // the one in use and the one read into
	asked   int       // blocks asked for
	got     int       // blocks handed out
	ready   chan fetched
}

type fetched struct {
	block []byte
	err   error
}

func (f *fetcher) newReader(r *run, bufs [2][]byte) *runReader {
	rr := &runReader{run: r, fetcher: f, bufs: bufs, ready: make(chan fetched, 1)}
	rr.ask()
	return rr
}

// ask has the next block read, if there is one.
func (r *runReader) ask() {
	if r.asked < r.run.Blocks() {
		r.asked++
		r.fetcher.requests <- r // has room for all readers
	}
}

// nextBlock returns the next block, nil after the last. It is valid until the
// next call.
func (r *runReader) nextBlock() ([]byte, error) {
	if r.got == r.run.Blocks() {
		return nil, nil
	}
	f := <-r.ready
	r.got++
	if f.err == nil {
		r.ask()
	}
	return f.block, f.err
}

// fetcher reads blocks for the readers of a merge, in the background.
type fetcher struct{ requests chan *runReader }

// startFetcher starts a fetcher for a number of readers.
func (s *Sorter) startFetcher(readers int) *fetcher {
	f := &fetcher{requests: make(chan *runReader, readers)}
	s.Tasks.Go(f.run)
	return f
}

// stop ends the fetcher. No reader may be used any more.
func (f *fetcher) stop() { close(f.requests) }

// run serves requests until there are no more.
func (f *fetcher) run() {
	for r := range f.requests {
		i := r.asked - 1
		block, err := r.run.Read(r.bufs[i%2], i, 1)
		r.ready <- fetched{block, err} // one at most is under way
	}
}
