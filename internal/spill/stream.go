package spill

import "io"

// Write appends bytes of a stream that a [Reader] returns, in blocks of the full length.
func (f *File) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := f.Room(1); err != nil {
			return n, err
		}
		part := min(len(p)-n, f.limit-len(f.Buf))
		f.Buf = append(f.Buf, p[n:n+part]...)
		n += part
	}
	return n, nil
}

// Reader reads a finished file as a stream.
type Reader struct {
	file      *File
	next      int // block
	buf, rest []byte
}

// NewReader returns a Reader from the beginning on.
func (f *File) NewReader() *Reader { return &Reader{file: f} }

func (r *Reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.next == r.file.Blocks() {
			return 0, io.EOF
		}
		var err error
		if r.buf, err = r.file.Read(r.buf, r.next, 1); err != nil {
			return 0, err
		}
		r.rest = r.buf
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
