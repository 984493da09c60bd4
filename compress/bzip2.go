package compress

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/dsnet/compress/bzip2"
)

// bz2Codec is bzip2 files.
type bz2Codec struct {
	level   int
	limit   int64
	writers [10]sync.Pool // of *bzip2.Writer, by level
	readers sync.Pool     // of *bzip2.Reader
}

func newBZ2(level int, limit int64) *bz2Codec {
	if level == 0 {
		level = 9
	}
	return &bz2Codec{level: level, limit: limit}
}

func (c *bz2Codec) maxEncoded(n int64) int64 { return 1024 + n + n/8 }

// levelFor returns the lowest level whose blocks, of 100,000 bytes times the
// level, hold n bytes at their longest, since four alike become five. A higher
// one would change nothing but the memory that every reader takes.
func (c *bz2Codec) levelFor(n int) int { return min(c.level, 1+n/80_000) }

func (c *bz2Codec) encode(dst, src []byte) ([]byte, error) {
	out := &appender{dst}
	level := c.levelFor(len(src))
	w, _ := c.writers[level].Get().(*bzip2.Writer)
	var err error
	if w == nil {
		w, err = bzip2.NewWriter(out, &bzip2.WriterConfig{Level: level})
	} else {
		err = w.Reset(out)
	}
	if err != nil {
		return dst, err
	}
	_, err = w.Write(src)
	if err = errors.Join(err, w.Close()); err != nil {
		return dst, err
	}
	c.writers[level].Put(w)
	return out.data, nil
}

func (c *bz2Codec) decode(dst, content []byte) ([]byte, error) {
	return decodeStream(c, dst, content, c.limit)
}

// measure knows nothing: the format has no length.
func (c *bz2Codec) measure(*piece) (int64, error) { return unknown, nil }

// bz2Stream decompresses a piece as it is read.
type bz2Stream struct {
	codec  *bz2Codec
	reader *bzip2.Reader
	p      *piece
	ended  bool // the reader is at its end, and can be used again
}

func (c *bz2Codec) stream(p *piece) (io.ReadCloser, error) {
	r, _ := c.readers.Get().(*bzip2.Reader)
	var err error
	if r == nil {
		r, err = bzip2.NewReader(p, nil)
	} else {
		err = r.Reset(p)
	}
	if err != nil {
		return nil, err
	}
	return &bz2Stream{codec: c, reader: r, p: p}, nil
}

func (s *bz2Stream) Read(dst []byte) (n int, err error) {
	// The library tells of damage by panics of its own, which it catches. Should
	// damage ever make it panic otherwise, that is an error of the data, too.
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("damaged bzip2 data: %v", r)
		}
		s.ended = err == io.EOF
	}()
	return s.reader.Read(dst)
}

// Close gives the reader back. One that did not reach its end is not used again:
// the library's Reset leaves data of before in it.
func (s *bz2Stream) Close() error {
	s.p.left = 0 // the reader may not reach the piece again
	if s.ended {
		s.codec.readers.Put(s.reader)
	}
	return nil
}
