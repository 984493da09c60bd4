package filejobs

import (
	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/tempdir"
)

// spool holds a text that may be larger than memory. Text beyond a limit goes to a temporary
// file, in pieces of equal length.
type spool struct {
	temp  *tempdir.Set
	limit int // maximum bytes in memory
	buf   []byte
	file  *spill.File
	size  int64 // bytes in the file
}

const maxSpoolPiece = 256 << 10

func (s *spool) pieceSize() int { return min(s.limit, maxSpoolPiece) }

// moveToDisk moves the text in memory to the file if it exceeds the limit. Less than a piece remains
// in memory.
func (s *spool) moveToDisk() (err error) {
	if len(s.buf) < s.limit {
		return nil
	}
	if s.file == nil {
		if s.file, err = spill.Create(s.temp, "lists", s.pieceSize()); err != nil {
			return err
		}
	}
	complete := 0
	for ; len(s.buf)-complete >= s.pieceSize(); s.file.End() {
		complete += s.pieceSize()
		s.file.Buf = s.buf[:complete]
	}
	if err := s.file.Finish(); err != nil {
		return err
	}
	s.size += int64(complete)
	s.buf = s.buf[:copy(s.buf, s.buf[complete:])]
	return nil
}

// reset removes the text, and keeps the file.
func (s *spool) reset() {
	s.buf, s.size = s.buf[:0], 0
	if s.file != nil {
		s.file.Reset()
	}
}

// pieces calls use with the pieces of the text, which are never empty.
func (s *spool) pieces(use func([]byte) error) (err error) {
	if s.size > 0 {
		var p []byte
		for i := range s.file.Blocks() {
			if p, err = s.file.Read(p, i, 1); err != nil {
				return err
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

func (s *spool) close() error { return s.file.Close() }
