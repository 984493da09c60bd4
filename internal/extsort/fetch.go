package extsort

import (
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"github.com/go-partd/partd"
)

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
	if r.asked < len(r.run.blocks) {
		r.asked++
		r.fetcher.requests <- r // has room for all readers
	}
}

// nextBlock returns the next block, nil after the last. It is valid until the
// next call.
func (r *runReader) nextBlock() ([]byte, error) {
	if r.got == len(r.run.blocks) {
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
type fetcher struct {
	requests chan *runReader
	stored   []byte
}

// startFetcher starts a fetcher for a number of readers.
func (s *Sorter) startFetcher(readers int) *fetcher {
	f := &fetcher{requests: make(chan *runReader, readers)}
	s.tasks.Go(f.run)
	return f
}

// stop ends the fetcher. No reader may be used any more.
func (f *fetcher) stop() { close(f.requests) }

// run serves requests until there are no more.
func (f *fetcher) run() {
	for r := range f.requests {
		i := r.asked - 1
		block, err := f.read(r.run, r.run.blocks[i], r.bufs[i%2])
		r.ready <- fetched{block, err} // one at most is under way
	}
}

func (f *fetcher) read(r *run, ref blockRef, buf []byte) ([]byte, error) {
	block := buf[:ref.raw]
	stored := block
	if ref.stored < ref.raw {
		if cap(f.stored) < int(ref.stored) {
			f.stored = make([]byte, ref.stored)
		}
		stored = f.stored[:ref.stored]
	}
	if _, err := r.file.ReadAt(stored, ref.offset); err != nil {
		return nil, fmt.Errorf("reading sorted records: %w", err)
	}
	if crc := crc32.Checksum(stored, castagnoli); crc != ref.crc {
		return nil, &partd.CorruptError{Path: r.file.Name(), Offset: ref.offset, Err: fmt.Errorf("%w: CRC-32C %08x, not %08x", errBlock, crc, ref.crc)}
	}
	if ref.stored < ref.raw {
		n, err := s2.DecodedLen(stored)
		if err == nil && n != int(ref.raw) {
			err = errBlock
		}
		if err == nil {
			_, err = s2.Decode(block, stored)
		}
		if err != nil {
			return nil, &partd.CorruptError{Path: r.file.Name(), Offset: ref.offset, Err: err}
		}
	}
	return block, nil
}
