package partd

import (
	"errors"
	"io"
	"iter"
)

// Value is the value of one key in a scan, as a reader. It can be read until the next iteration
// step of [Values].
type Value struct {
	Key    string
	scan   *valueScan
	number int // number of the key in the scan, from 1
}

// Values yields one reader for each key of a [Scan] or [ScanPart]. Use it to read records, because
// a chunk can end within a record. The next step skips the unread rest of a value. An error ends
// the iteration. Package shuffle's Values functions yield records instead of readers.
func Values(chunks iter.Seq2[Chunk, error]) iter.Seq2[Value, error] {
	return func(yield func(Value, error) bool) {
		next, stop := iter.Pull2(chunks)
		defer stop()
		s := &valueScan{next: next, chunk: Chunk{Last: true}}
		defer func() { s.number++ }() // invalidates the last value
		for s.nextKey() == nil {
			if !yield(Value{s.chunk.Key, s, s.number}, nil) {
				return
			}
		}
		if s.err != io.EOF {
			yield(Value{}, s.err)
		}
	}
}

var errValueOver = errors.New("a value can be read only until the scan yields the next key")

// Next returns the next piece of the value, without copying it, or io.EOF at the value's end. The
// piece is valid until the next call.
func (v Value) Next() ([]byte, error) {
	s := v.scan
	if s == nil || s.number != v.number {
		return nil, &Error{Op: "scan", Key: v.Key, HasKey: true, Err: errValueOver}
	}
	for len(s.chunk.Data) == 0 {
		if s.chunk.Last {
			return nil, io.EOF
		}
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	data := s.chunk.Data
	s.chunk.Data = nil
	return data, nil
}

// Read implements io.Reader.
func (v Value) Read(p []byte) (int, error) {
	data, err := v.Next()
	if err != nil {
		return 0, err
	}
	n := copy(p, data)
	v.scan.chunk.Data = data[n:]
	return n, nil
}

// valueScan reads a scan, one key after another.
type valueScan struct {
	next   func() (Chunk, error, bool)
	chunk  Chunk // the current chunk, with the data that has not been read
	number int   // number of the current key, from 1
	err    error // the scan's error; io.EOF at the end of the scan
}

func (s *valueScan) nextKey() error {
	for !s.chunk.Last { // skip the unread rest of the value
		if err := s.step(); err != nil {
			return err
		}
	}
	s.number++
	return s.step()
}

func (s *valueScan) step() error {
	if s.err != nil {
		return s.err
	}
	continues := !s.chunk.Last
	c, err, ok := s.next()
	s.chunk, s.err = c, err
	switch {
	case !ok && continues:
		s.err = &Error{Op: "scan", Err: errors.New("the store ended its scan within a key")}
	case !ok:
		s.err = io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF: // the connection broke: callers must not mistake this for the end
		s.err = &Error{Op: "scan", Err: err}
	}
	return s.err
}
