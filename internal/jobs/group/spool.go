package group

import (
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/spill"
)

// spool holds text that may not fit in memory. When the text reaches the limit, it moves to a
// temporary file, in pieces of equal length.
type spool struct {
	temp  *tempdir.Set
	limit int // maximum size in memory, in bytes
	buf   []byte
	file  *spill.File
	size  int64 // bytes in the file
}

const maxSpoolPiece = 256 << 10

func (s *spool) pieceSize() int { return min(s.limit, maxSpoolPiece) }

// moveToDisk does nothing until the text in memory reaches the limit. Then it moves the text to the
// file, except an incomplete piece at the end.
func (s *spool) moveToDisk() (err error) {
	if len(s.buf) < s.limit {
		return nil
	}
	if s.file == nil {
		s.file, err = spill.Create(s.temp, "lists", s.pieceSize())
		if err != nil {
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

// reset removes the text. It keeps the file for the next text.
func (s *spool) reset() {
	s.buf, s.size = s.buf[:0], 0
	if s.file != nil {
		s.file.Reset()
	}
}

// pieces passes the text to handle in pieces, which are never empty.
func (s *spool) pieces(handle func([]byte) error) (err error) {
	if s.size > 0 {
		var p []byte
		for i := range s.file.Blocks() {
			p, err = s.file.Read(p, i, 1)
			if err != nil {
				return err
			}
			if err := handle(p); err != nil {
				return err
			}
		}
	}
	if len(s.buf) == 0 {
		return nil
	}
	return handle(s.buf)
}

func (s *spool) close() error { return s.file.Close() }
