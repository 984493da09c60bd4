package compress

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/s2"
)

// s2Codec reads and writes S2 streams. A stream consists of chunks, which have a type (one
// byte), a length (three bytes, little-endian) and content:
//
//	0xff  the identifier, "S2sTwO"; always the first chunk
//	0x88  the decompressed length of the stream, 8 bytes, and its CRC; written before
//	      the data chunks if there are several
//	0x00  CRC-32C of the data, masked, 4 bytes; the data as an S2 block
//	0x01  CRC-32C of the data, masked, 4 bytes; the data uncompressed
//
// So the chunk after the identifier always contains the length of all data. A reader that finds less
// data knows that the stream was truncated between chunks.
type s2Codec struct {
	streamer
	level int
	table *crc32.Table
}

const (
	s2Identifier  = "\xff\x06\x00\x00S2sTwO"
	s2Compressed  = 0x00
	s2Plain       = 0x01
	s2Length      = 0x88
	s2HeaderLen   = 4
	s2ChecksumLen = 4
	s2Block       = 256 << 10 // maximum size of the data in a written chunk, in bytes
	s2MaxBlock    = 1 << 20   // maximum size of the data in a chunk to read, in bytes
)

func newS2(o *Options, limit int64) (codec, error) {
	c := &s2Codec{level: o.Level, table: crc32.MakeTable(crc32.Castagnoli)}
	c.limit = limit
	c.newReader = func(src io.Reader) (io.Reader, func() error, error) {
		r := s2.NewReader(src, s2.ReaderMaxBlockSize(s2MaxBlock), s2.ReaderAllocBlock(4<<10))
		return r, func() error {
			r.Reset(src)
			return nil
		}, nil
	}
	return c, nil
}

// checksum returns the CRC-32C of data, masked as the format requires.
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
	freeSpace := dst[len(dst):cap(dst)]
	var compressed []byte
	switch c.level {
	case 2:
		compressed = s2.EncodeBetter(freeSpace, block)
	case 3:
		compressed = s2.EncodeBest(freeSpace, block)
	default:
		compressed = s2.Encode(freeSpace, block)
	}
	if len(compressed) < len(block) {
		dst = dst[:len(dst)+len(compressed)]
	} else {
		dst[start] = s2Plain
		dst = append(dst, block...)
	}
	n := len(dst) - start - s2HeaderLen
	dst[start+1], dst[start+2], dst[start+3] = byte(n), byte(n>>8), byte(n>>16)
	return dst
}

// decode handles only the chunk types that encode writes. If it finds another type, or damage, the
// library reads the whole piece again.
func (c *s2Codec) decode(ctx context.Context, dst, content []byte) ([]byte, error) {
	claimedSize, err := c.measure(content[:min(headBytes, len(content))], int64(len(content)))
	if err != nil {
		return dst, err
	}
	if out, ok := c.decodeChunks(ctx, dst, content[len(s2Identifier):], int(claimedSize)); ok {
		return out, nil
	}
	return c.decodeStream(ctx, dst, content, claimedSize)
}

// decodeChunks appends the data of all chunks to dst. It returns false unless all chunks
// are valid and together hold exactly remaining bytes of data, and ctx is active.
func (c *s2Codec) decodeChunks(ctx context.Context, dst, chunks []byte, remaining int) ([]byte, bool) {
	if chunks[0] == s2Length {
		chunks = chunks[s2HeaderLen+8+s2ChecksumLen:]
	}
	for len(chunks) >= s2HeaderLen+s2ChecksumLen && chunks[0] <= s2Plain && ctx.Err() == nil {
		isPlain := chunks[0] == s2Plain
		end := s2HeaderLen + s2BodyLen(chunks)
		if end < s2HeaderLen+s2ChecksumLen || end > len(chunks) {
			return dst, false
		}
		sum, data := binary.LittleEndian.Uint32(chunks[s2HeaderLen:]), chunks[s2HeaderLen+s2ChecksumLen:end]
		chunks = chunks[end:]
		n, err := len(data), error(nil)
		if !isPlain {
			n, err = s2.DecodedLen(data)
		}
		if err != nil || n > min(remaining, s2MaxBlock) {
			return dst, false
		}
		start := len(dst)
		dst = slices.Grow(dst, n)[:start+n]
		if isPlain {
			copy(dst[start:], data)
		} else if _, err := s2.Decode(dst[start:], data); err != nil {
			return dst, false
		}
		if c.checksum(dst[start:]) != sum {
			return dst, false
		}
		remaining -= n
	}
	return dst, remaining == 0 && len(chunks) == 0
}

func s2BodyLen(chunk []byte) int { return int(chunk[1]) | int(chunk[2])<<8 | int(chunk[3])<<16 }

// measure reads the chunk after the identifier: the length, or the only data chunk.
func (c *s2Codec) measure(header []byte, total int64) (int64, error) {
	chunk, ok := bytes.CutPrefix(header, []byte(s2Identifier))
	if !ok || len(chunk) < s2HeaderLen+s2ChecksumLen {
		return 0, errS2
	}
	switch body := chunk[s2HeaderLen:]; chunk[0] {
	case s2Length:
		isWhole := s2BodyLen(chunk) == 8+s2ChecksumLen && len(body) == 8+s2ChecksumLen
		if !isWhole || binary.LittleEndian.Uint32(body[8:]) != c.checksum(body[:8]) {
			return 0, errS2
		}
		// The maximum ratio is s2MaxBlock/5: a block of 1 MiB takes at least 5 bytes.
		return checkClaim(binary.LittleEndian.Uint64(body), total, s2MaxBlock/5, c.limit)
	case s2Compressed:
		n, err := s2.DecodedLen(body[s2ChecksumLen:])
		if err != nil {
			return 0, err
		}
		return checkClaim(uint64(n), total, s2MaxBlock/5, min(c.limit, s2MaxBlock))
	case s2Plain:
		return checkClaim(uint64(max(s2BodyLen(chunk)-s2ChecksumLen, 0)), total, 1, c.limit)
	}
	return 0, errS2
}

var errS2 = errors.New("not an S2 stream, or a damaged one")
