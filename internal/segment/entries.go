package segment

import (
	"errors"
	"io"
)

// Source yields the bytes of a stream of entries in pieces, each valid
// until the next. It ends with io.EOF.
type Source interface {
	Next() ([]byte, error)
}

// EachBlock calls use for each piece of a source, which is valid during the call.
func EachBlock(src Source, use func(b []byte) error) error {
	for {
		b, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = use(b)
		}
		if err != nil {
			return err
		}
	}
}

// EntryReader reads the entries of a Source. An entry may be spread over
// several blocks.
type EntryReader struct {
	Src   Source
	buf   []byte // what is left of the current block
	carry []byte // an entry that does not lie in one block, and what follows it
	tmp   []byte
}

// Next returns the next entry, valid until the next call, and io.EOF at the end.
func (r *EntryReader) Next() (Entry, error) {
	for {
		e, err := ParseEntry(r.buf)
		if err == nil {
			r.buf = r.buf[len(e.Raw):]
			return e, nil
		}
		if !errors.Is(err, ErrShortEntry) || len(r.buf) > maxEntryLen {
			return e, ErrBadEntry
		}
		rest := len(r.buf)
		// What is left must be saved before the source uses its memory again.
		// buf may be a part of carry, so the two take turns.
		r.tmp = append(r.tmp[:0], r.buf...)
		block, err := r.Src.Next()
		if err == io.EOF {
			if rest > 0 {
				return e, ErrShortEntry
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

// Slices is a Source of slices that lie in memory.
type Slices struct{ Blocks [][]byte }

func (s *Slices) Next() ([]byte, error) {
	if len(s.Blocks) == 0 {
		return nil, io.EOF
	}
	b := s.Blocks[0]
	s.Blocks = s.Blocks[1:]
	return b, nil
}

func (r *EntryReader) Reset(src Source) { r.Src, r.buf = src, nil }

// Each calls f for each entry of another source, which is valid during the call.
func (r *EntryReader) Each(src Source, f func(e *Entry) error) error {
	r.Reset(src)
	var e Entry // outside of the loop, since f lets it escape
	for {
		var err error
		if e, err = r.Next(); err == io.EOF {
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

// EachEntry calls f for each entry of a source, which is valid during the call.
func EachEntry(src Source, f func(e *Entry) error) error {
	var r EntryReader
	return r.Each(src, f)
}
