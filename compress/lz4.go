package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// lz4Codec is LZ4 frames, one a piece, with the content's size and checksum.
type lz4Codec struct {
	level   lz4.CompressionLevel
	limit   int64
	writers sync.Pool // of *lz4.Writer
	readers sync.Pool // of *lz4Stream
}

const (
	lz4Ratio  = 256 // what a byte can become at most
	lz4Header = 15  // bytes of the header with a size
	lz4Magic  = 0x184D2204
)

func newLZ4(level int, limit int64) *lz4Codec {
	c := &lz4Codec{level: lz4.Fast, limit: limit}
	if level >= 2 && level <= 10 {
		c.level = lz4.Level1 << (level - 2)
	}
	c.writers.New = func() any { return lz4.NewWriter(nil) }
	c.readers.New = func() any { return &lz4Stream{codec: c, reader: lz4.NewReader(nil)} }
	return c
}

func (c *lz4Codec) maxEncoded(n int64) int64 { return 64 + n + n/128 }

func (c *lz4Codec) encode(dst, src []byte) ([]byte, error) {
	w := c.writers.Get().(*lz4.Writer)
	defer c.writers.Put(w)
	block := lz4.Block64Kb
	if len(src) > 64<<10 {
		block = lz4.Block256Kb
	}
	out := appender{dst}
	w.Reset(&out)
	err := w.Apply(lz4.ConcurrencyOption(1), lz4.BlockSizeOption(block), lz4.ChecksumOption(true),
		lz4.SizeOption(uint64(len(src))), lz4.CompressionLevelOption(c.level))
	if err != nil {
		return dst, err
	}
	if _, err := w.Write(src); err != nil {
		return dst, errors.Join(err, w.Close())
	}
	err = w.Close()
	w.Reset(nil)
	return out.data, err
}

func (c *lz4Codec) decode(dst, content []byte) ([]byte, error) {
	return decodeStream(c, dst, content, c.limit)
}

// measure reads the header: magic number, flags, block size, content size if
// the flags say so, and the header's checksum.
func (c *lz4Codec) measure(p *piece) (int64, error) {
	total := p.left
	head, err := p.head(lz4Header)
	if err != nil {
		return 0, err
	}
	if len(head) < 7 || binary.LittleEndian.Uint32(head) != lz4Magic {
		return 0, errors.New("no LZ4 frame")
	}
	const hasSize = 1 << 3
	if head[4]&hasSize == 0 {
		return unknown, nil
	}
	if len(head) < lz4Header {
		return 0, io.ErrUnexpectedEOF
	}
	return claim(binary.LittleEndian.Uint64(head[6:]), total, lz4Ratio, c.limit)
}

// lz4Stream decompresses one frame as it is read.
type lz4Stream struct {
	codec  *lz4Codec
	reader *lz4.Reader
	p      *piece
	told
}

func (c *lz4Codec) stream(p *piece) (io.ReadCloser, error) {
	want, err := c.measure(p)
	if err != nil {
		return nil, err
	}
	s := c.readers.Get().(*lz4Stream)
	s.p, s.told = p, told{want: want}
	s.reader.Reset(p)
	if err := s.reader.Apply(lz4.ConcurrencyOption(1)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *lz4Stream) Read(dst []byte) (int, error) {
	n, err := s.reader.Read(dst)
	return n, s.check(n, err)
}

// Close gives the reader back.
func (s *lz4Stream) Close() error {
	s.reader.Reset(bytes.NewReader(nil))
	s.p = nil
	s.codec.readers.Put(s)
	return nil
}
