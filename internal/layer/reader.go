package layer

import (
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
)

// Reader reads the values of a scan, one key after another.
type Reader struct {
	Key  string
	Keys int   // number of keys read so far, including the current one
	Err  error // the scan's error; io.EOF at the end of the scan

	next func() (partd.Chunk, error, bool)
	path string
	data []byte // unread bytes of the current chunk
	last bool   // whether the current chunk is the last of its key
}

// NewReader returns a reader of a scan, positioned before its first key, and a function that stops
// the scan. Errors contain path, the path of the store, which may be empty.
func NewReader(chunks iter.Seq2[partd.Chunk, error], path string) (r *Reader, stop func()) {
	next, stop := iter.Pull2(chunks)
	return &Reader{next: next, path: path, last: true}, stop
}

// Next moves to the next key, and returns io.EOF after the last one.
func (r *Reader) Next() error {
	for !r.last { // skip the unread rest of the value
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
	continues := !r.last
	c, err, ok := r.next()
	r.Key, r.data, r.last, r.Err = c.Key, c.Data, c.Last, err
	switch {
	case !ok && continues:
		r.Err = &partd.Error{Op: "scan", Path: r.path, Err: errors.New("the store beneath ended its scan within a key")}
	case !ok:
		r.Err = io.EOF
	case err == io.EOF || err == io.ErrUnexpectedEOF: // the connection broke: callers must not mistake this for the end
		r.Err = &partd.Error{Op: "scan", Path: r.path, Err: err}
	}
	return r.Err
}

// Data returns more of the key's value, valid until the next call, and io.EOF at its end.
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

// Read reads more of the key's value.
func (r *Reader) Read(p []byte) (int, error) {
	data, err := r.Data()
	n := copy(p, data)
	r.data = data[n:]
	return n, err
}
