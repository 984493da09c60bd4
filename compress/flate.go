package compress

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

// flateCodec is zlib streams or gzip files.
type flateCodec struct {
	format  Format
	level   int
	limit   int64
	writers sync.Pool // of flateWriter
	readers sync.Pool // of flateReader
}

// flateWriter is what the writers of both formats can do.
type flateWriter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// flateReader is what the readers of both formats are made to do.
type flateReader interface {
	io.Reader
	reset(p *piece) error
}

type zlibReader struct{ io.Reader }

func (r zlibReader) reset(p *piece) error { return r.Reader.(zlib.Resetter).Reset(p, nil) }

type gzipReader struct{ *gzip.Reader }

func (r gzipReader) reset(p *piece) error { return r.Reset(p) }

func newFlate(format Format, level int, limit int64) *flateCodec {
	if level == 0 {
		level = 6
	}
	return &flateCodec{format: format, level: level, limit: limit}
}

func (c *flateCodec) maxEncoded(n int64) int64 { return 64 + n + n/128 }

func (c *flateCodec) newWriter(w io.Writer) (flateWriter, error) {
	if c.format == FormatGzip {
		return gzip.NewWriterLevel(w, c.level)
	}
	return zlib.NewWriterLevel(w, c.level)
}

func (c *flateCodec) newReader(p *piece) (flateReader, error) {
	if c.format == FormatGzip {
		r, err := gzip.NewReader(p)
		return gzipReader{r}, err
	}
	r, err := zlib.NewReader(p)
	return zlibReader{r}, err
}

func (c *flateCodec) encode(dst, src []byte) ([]byte, error) {
	out := &appender{dst}
	w, _ := c.writers.Get().(flateWriter)
	if w == nil {
		var err error
		if w, err = c.newWriter(out); err != nil {
			return dst, err
		}
	} else {
		w.Reset(out)
	}
	_, err := w.Write(src)
	err = errors.Join(err, w.Close())
	w.Reset(nil)
	c.writers.Put(w)
	return out.data, err
}

func (c *flateCodec) decode(dst, content []byte) ([]byte, error) {
	return decodeStream(c, dst, content, c.limit)
}

// measure knows nothing: zlib has no length, and gzip has it at the end and
// modulo 2^32.
func (c *flateCodec) measure(*piece) (int64, error) { return unknown, nil }

// flateStream decompresses a piece as it is read.
type flateStream struct {
	codec  *flateCodec
	reader flateReader
	p      *piece
}

func (c *flateCodec) stream(p *piece) (io.ReadCloser, error) {
	r, _ := c.readers.Get().(flateReader)
	var err error
	if r == nil {
		r, err = c.newReader(p)
	} else if err = r.reset(p); err != nil {
		c.readers.Put(r)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return &flateStream{c, r, p}, nil
}

func (s *flateStream) Read(dst []byte) (int, error) {
	n, err := s.reader.Read(dst)
	if err == io.EOF && s.p.left > 0 {
		err = errTrailing
	}
	return n, err
}

// Close gives the reader back.
func (s *flateStream) Close() error {
	s.p.left = 0 // the reader may not reach the piece again
	s.codec.readers.Put(s.reader)
	return nil
}
