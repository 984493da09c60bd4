package filejobs

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// spool keeps a text that may be larger than memory: what is beyond a limit is
// in a temporary file, in pieces of one length. Their checksums are kept in
// memory: nobody else reads the file.
type spool struct {
	temp  *tempdir.Set
	limit int // bytes in memory
	buf   []byte
	file  vfs.File
	size  int64    // bytes in the file
	sums  []uint32 // CRC-32C of each piece
}

const mostSpoolPiece = 256 << 10

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errSpool   = errors.New("a list does not hold what was written to it")
)

func (s *spool) piece() int { return min(s.limit, mostSpoolPiece) }

// move moves what is in memory to the file, if it is more than the limit. Less
// than a piece of it stays.
func (s *spool) move() error {
	if len(s.buf) < s.limit {
		return nil
	}
	if s.file == nil {
		f, err := s.temp.Create()
		if err != nil {
			return err
		}
		s.file = f
	}
	whole := len(s.buf) / s.piece() * s.piece()
	if _, err := s.file.WriteAt(s.buf[:whole], s.size); err != nil {
		return err
	}
	for at := 0; at < whole; at += s.piece() {
		s.sums = append(s.sums, crc32.Checksum(s.buf[at:at+s.piece()], castagnoli))
	}
	s.size += int64(whole)
	s.buf = s.buf[:copy(s.buf, s.buf[whole:])]
	return nil
}

// reset forgets the text, and keeps the file for the next.
func (s *spool) reset() { s.buf, s.size, s.sums = s.buf[:0], 0, s.sums[:0] }

// pieces calls use with the text, piece by piece, none of them empty.
func (s *spool) pieces(use func([]byte) error) error {
	if s.size > 0 {
		p := make([]byte, s.piece())
		for i, sum := range s.sums {
			at := int64(i) * int64(len(p))
			if _, err := s.file.ReadAt(p, at); err != nil {
				return err
			}
			if got := crc32.Checksum(p, castagnoli); got != sum {
				return &partd.CorruptError{Path: s.file.Name(), Offset: at, Err: fmt.Errorf("%w: CRC-32C %08x, not %08x", errSpool, got, sum)}
			}
			if err := use(p); err != nil {
				return err
			}
		}
	}
	if len(s.buf) == 0 {
		return nil
	}
	return use(s.buf)
}

func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
