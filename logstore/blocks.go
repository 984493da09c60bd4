package logstore

import (
	"errors"
	"io"
)

// blockSource yields the bytes of a stream of entries in pieces, each valid
// until the next. It ends with io.EOF.
type blockSource interface {
	next() ([]byte, error)
}

// entryReader reads the entries of a blockSource. An entry may be spread over
// several blocks.
type entryReader struct {
	src   blockSource
	buf   []byte // what is left of the current block
	carry []byte // an entry that does not lie in one block, and what follows it
	tmp   []byte
}

// next returns the next entry, valid until the next call, and io.EOF at the end.
func (r *entryReader) next() (entry, error) {
	for {
		e, err := parseEntry(r.buf)
		if err == nil {
			r.buf = r.buf[len(e.raw):]
			return e, nil
		}
		if !errors.Is(err, errShortEntry) || len(r.buf) > maxEntryLen {
			return e, errBadEntry
		}
		rest := len(r.buf)
		// What is left must be saved before the source uses its memory again.
		// buf may be a part of carry, so the two take turns.
		r.tmp = append(r.tmp[:0], r.buf...)
		block, err := r.src.next()
		if err == io.EOF {
			if rest > 0 {
				return e, errShortEntry
			}
			return e, io.EOF
		}
		if err != nil {
			return e, err
		}
		if rest == 0 {
			r.buf = block
			continue
		}
		r.tmp = append(r.tmp, block...)
		r.tmp, r.carry = r.carry, r.tmp
		r.buf = r.carry
	}
}

// sliceSource is a blockSource of slices that lie in memory.
type sliceSource struct{ blocks [][]byte }

func (s *sliceSource) next() ([]byte, error) {
	if len(s.blocks) == 0 {
		return nil, io.EOF
	}
	b := s.blocks[0]
	s.blocks = s.blocks[1:]
	return b, nil
}

// each calls f for each entry of another source, which is valid during the call.
func (r *entryReader) each(src blockSource, f func(e *entry) error) error {
	r.src, r.buf = src, nil
	var e entry // outside of the loop, since f lets it escape
	for {
		var err error
		if e, err = r.next(); err == io.EOF {
			return nil
		}
		if err == nil {
			err = f(&e)
		}
		if err != nil {
			return err
		}
	}
}

// eachEntry calls f for each entry of a source, which is valid during the call.
func eachEntry(src blockSource, f func(e *entry) error) error {
	var r entryReader
	return r.each(src, f)
}
