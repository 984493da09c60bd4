// Package scanread reads the values of a scan one after the other, for layers.
package scanread

import (
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
)

// Reader reads one key's value after the other.
type Reader struct {
	Key  string
	Keys int   // how many were begun
	Err  error // of the scan, io.EOF at its end

	next func() (partd.Chunk, error, bool)
	path string
	data []byte // of the chunk at hand, what was not read yet
	last bool   // it is the last one of its key
}

// New returns a reader of a scan, before its first key, and what ends it. Path is what
// errors name, if anything.
func New(chunks iter.Seq2[partd.Chunk, error], path string) (r *Reader, stop func()) {
	next, stop := iter.Pull2(chunks)
	return &Reader{next: next, path: path, last: true}, stop
}

// Next goes on to the next key, and returns io.EOF after the last one.
func (r *Reader) Next() error {
	for !r.last { // the rest of a value that was not read to its end
		if err := r.step(); err != nil {
			return err
		}
	}
	r.Keys++
	return r.step()
}

func (r *Reader) step() error {
	if r.Err != nil {
		return r.Err
	}
	within := !r.last
	c, err, ok := r.next()
	r.Key, r.data, r.last, r.Err = c.Key, c.Data, c.Last, err
	switch {
	case !ok && within:
		r.Err = &partd.Error{Op: "scan", Path: r.path, Err: errors.New("the store beneath ended its scan within a key")}
	case !ok:
		r.Err = io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF: // a connection's: neither the scan nor the value is at its end
		r.Err = &partd.Error{Op: "scan", Path: r.path, Err: err}
	}
	return r.Err
}

// Data returns more of the key's value, good until the next call, and io.EOF at its end.
func (r *Reader) Data() ([]byte, error) {
	for len(r.data) == 0 {
		if r.last {
			return nil, io.EOF
		}
		if err := r.step(); err != nil {
			return nil, err
		}
	}
	data := r.data
	r.data = nil
	return data, nil
}

// Read reads what is left of the key's value.
func (r *Reader) Read(p []byte) (int, error) {
	data, err := r.Data()
	n := copy(p, data)
	r.data = data[n:]
	return n, err
}
