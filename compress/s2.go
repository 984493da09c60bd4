package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
)

// s2Codec is S2 streams, which any reader of S2 reads: an identifier, then chunks
// of one byte type, three bytes length (little-endian) and content. Those written
// and taken are:
//
//	0xff  the identifier, "S2sTwO"
//	0x88  the decompressed length of the stream, 8 bytes, and their CRC: only
//	      where data chunks are more than one, and before them
//	0x00  CRC-32C of the data, masked, 4 bytes; the data as an S2 block
//	0x01  CRC-32C of the data, masked, 4 bytes; the data as it is
//
// With the length a stream that ends after any chunk but the last is noticed.
type s2Codec struct {
	level int
	limit int64
	table *crc32.Table
	pool  sync.Pool // of *s2Stream
}

const (
	s2Identifier   = "\xff\x06\x00\x00S2sTwO"
	s2Compressed   = 0x00
	s2Plain        = 0x01
	s2Length       = 0x88 // of the range that readers skip
	s2HeaderLen    = 4
	s2ChecksumLen  = 4
	s2Block        = 256 << 10 // bytes of data in the chunks that are written
	s2LargestBlock = 1 << 20   // and in those that are taken
)

func newS2(level int, limit int64) *s2Codec {
	c := &s2Codec{level: level, limit: limit, table: crc32.MakeTable(crc32.Castagnoli)}
	c.pool.New = func() any { return &s2Stream{codec: c} }
	return c
}

func (c *s2Codec) maxEncoded(n int64) int64 { return 64 + n + n/8 + n/s2Block*16 }

// checksum is the CRC as streams have it: masked, as it may be of data that
// holds CRCs.
func (c *s2Codec) checksum(data []byte) uint32 {
	sum := crc32.Checksum(data, c.table)
	return (sum>>15 | sum<<17) + 0xa282ead8
}

func (c *s2Codec) encode(dst, src []byte) ([]byte, error) {
	dst = append(dst, s2Identifier...)
	if len(src) > s2Block {
		start := len(dst)
		dst = append(dst, s2Length, 8+s2ChecksumLen, 0, 0)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(len(src)))
		dst = binary.LittleEndian.AppendUint32(dst, c.checksum(dst[start+s2HeaderLen:]))
	}
	for len(src) > 0 {
		block := src[:min(len(src), s2Block)]
		src = src[len(block):]
		dst = c.encodeBlock(dst, block)
	}
	return dst, nil
}

func (c *s2Codec) encodeBlock(dst, block []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, s2HeaderLen+s2ChecksumLen+s2.MaxEncodedLen(len(block)))
	dst = append(dst, s2Compressed, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, c.checksum(block))
	room := dst[len(dst):cap(dst)]
	var packed []byte
	switch c.level {
	case 2:
		packed = s2.EncodeBetter(room, block)
	case 3:
		packed = s2.EncodeBest(room, block)
	default:
		packed = s2.Encode(room, block)
	}
	if len(packed) < len(block) {
		dst = dst[:len(dst)+len(packed)]
	} else {
		dst[start] = s2Plain
		dst = append(dst, block...)
	}
	n := len(dst) - start - s2HeaderLen
	dst[start+1], dst[start+2], dst[start+3] = byte(n), byte(n>>8), byte(n>>16)
	return dst
}

func (c *s2Codec) decode(dst, content []byte) ([]byte, error) {
	src := source{buf: content, ended: true}
	s := c.pool.Get().(*s2Stream)
	defer s.Close()
	s.reset(&piece{source: &src, left: int64(len(content))})
	start := len(dst)
	for {
		var err error
		if dst, err = s.chunk(dst); err == io.EOF {
			return dst, nil
		} else if err != nil {
			return dst, err
		}
		if int64(len(dst)-start) > c.limit {
			return dst, errTooLong
		}
	}
}

// measure reads the length chunk, or the head of the only data chunk.
func (c *s2Codec) measure(p *piece) (int64, error) {
	total := p.left
	head, err := p.head(len(s2Identifier) + s2HeaderLen + 8 + s2ChecksumLen)
	if err != nil {
		return 0, err
	}
	rest, ok := bytes.CutPrefix(head, []byte(s2Identifier))
	if !ok || len(rest) < s2HeaderLen+s2ChecksumLen {
		return 0, errS2
	}
	var n uint64
	switch body := rest[s2HeaderLen:]; rest[0] {
	case s2Length:
		if n, err = c.length(body); err != nil {
			return 0, err
		}
	case s2Compressed:
		data, err := s2.DecodedLen(body[s2ChecksumLen:])
		if err != nil || data > s2LargestBlock {
			return 0, errS2
		}
		return claim(uint64(data), s2LargestBlock, 1, c.limit)
	default:
		n = uint64(total) - uint64(len(s2Identifier)+s2HeaderLen+s2ChecksumLen)
	}
	// A block of 1 MiB has 5 bytes or more.
	return claim(n, total, s2LargestBlock/5, c.limit)
}

// length reads the content of a length chunk.
func (c *s2Codec) length(body []byte) (uint64, error) {
	if len(body) != 8+s2ChecksumLen || binary.LittleEndian.Uint32(body[8:]) != c.checksum(body[:8]) {
		return 0, errS2
	}
	return binary.LittleEndian.Uint64(body), nil
}

func (c *s2Codec) stream(p *piece) (io.ReadCloser, error) {
	s := c.pool.Get().(*s2Stream)
	s.reset(p)
	return s, nil
}

var errS2 = errors.New("no S2 stream, or a damaged one")

// s2Stream decompresses chunk by chunk.
type s2Stream struct {
	codec  *s2Codec
	p      *piece
	want   uint64 // what the length chunk says, 0 for none
	got    uint64
	chunks int
	block  []byte // of Read
	rest   []byte // of block, not read yet
}

func (s *s2Stream) reset(p *piece) {
	*s = s2Stream{codec: s.codec, p: p, block: s.block[:0]}
}

func (s *s2Stream) Close() error {
	s.reset(nil)
	s.codec.pool.Put(s)
	return nil
}

func (s *s2Stream) Read(dst []byte) (int, error) {
	for len(s.rest) == 0 {
		var err error
		if s.block, err = s.chunk(s.block[:0]); err != nil {
			return 0, err
		}
		s.rest = s.block
	}
	n := copy(dst, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// chunk appends the data of the next data chunk to dst. It returns io.EOF at the
// end of a stream that is whole.
func (s *s2Stream) chunk(dst []byte) ([]byte, error) {
	if s.got == 0 && s.chunks == 0 && s.want == 0 {
		if err := s.begin(); err != nil {
			return dst, err
		}
	}
	if s.p.left == 0 {
		if s.chunks == 0 || s.chunks > 1 && s.want == 0 || s.want > 0 && s.want != s.got {
			return dst, fmt.Errorf("%w: it ends after %d bytes", errS2, s.got)
		}
		return dst, io.EOF
	}
	kind, body, err := s.take()
	if err != nil {
		return dst, err
	}
	if len(body) < s2ChecksumLen+1 || kind > s2Plain {
		return dst, fmt.Errorf("%w: a chunk of type %#x and %d bytes", errS2, kind, len(body))
	}
	sum, data := binary.LittleEndian.Uint32(body), body[s2ChecksumLen:]
	n := len(data)
	if kind == s2Compressed {
		if n, err = s2.DecodedLen(data); err != nil {
			return dst, err
		}
	}
	if n > s2LargestBlock {
		return dst, fmt.Errorf("%w: a block of %d bytes, of %d at most", errS2, n, s2LargestBlock)
	}
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	if kind == s2Plain {
		copy(dst[start:], data)
	} else if _, err := s2.Decode(dst[start:], data); err != nil {
		return dst[:start], err
	}
	if s.codec.checksum(dst[start:]) != sum {
		return dst[:start], fmt.Errorf("%w: its checksum differs", errS2)
	}
	s.p.use(len(body))
	s.p.left -= int64(len(body))
	s.got += uint64(n)
	s.chunks++
	return dst, nil
}

// begin reads what comes before the data.
func (s *s2Stream) begin() error {
	head, err := s.p.head(len(s2Identifier) + 1)
	if err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(head, []byte(s2Identifier))
	if !ok || len(rest) == 0 {
		return errS2
	}
	if err := s.p.drop(int64(len(s2Identifier))); err != nil || rest[0] != s2Length {
		return err
	}
	_, body, err := s.take()
	if err != nil {
		return err
	}
	if s.want, err = s.codec.length(body); err != nil {
		return err
	}
	if s.want > uint64(s.codec.limit) {
		return overLimit(s.want, s.codec.limit)
	}
	return s.p.drop(int64(len(body)))
}

// take returns the next chunk, of which the header is used and the body not yet.
func (s *s2Stream) take() (kind byte, body []byte, err error) {
	head, err := s.p.head(s2HeaderLen)
	if err != nil {
		return 0, nil, err
	}
	if len(head) < s2HeaderLen {
		return 0, nil, io.ErrUnexpectedEOF
	}
	kind, n := head[0], int64(head[1])|int64(head[2])<<8|int64(head[3])<<16
	if n > s.p.left-s2HeaderLen {
		return 0, nil, io.ErrUnexpectedEOF
	}
	if err := s.p.drop(s2HeaderLen); err != nil {
		return 0, nil, err
	}
	body, err = s.p.whole(n)
	return kind, body, err
}
