package cli

import (
	"io"

	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// spool keeps a text that may be larger than memory: what is beyond a limit is
// in a temporary file.
type spool struct {
	temp  *tempdir.Set
	limit int // bytes in memory
	buf   []byte
	file  vfs.File
	size  int64 // bytes in the file
}

// move moves what is in memory to the file, if it is more than the limit.
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
	if _, err := s.file.WriteAt(s.buf, s.size); err != nil {
		return err
	}
	s.size += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// reset forgets the text, and keeps the file for the next.
func (s *spool) reset() { s.buf, s.size = s.buf[:0], 0 }

// pieces calls use with the text, piece by piece, none of them empty.
func (s *spool) pieces(use func([]byte) error) error {
	if s.size > 0 {
		p := make([]byte, 256<<10)
		for r := io.NewSectionReader(s.file, 0, s.size); ; {
			n, err := r.Read(p)
			if n > 0 {
				if err := use(p[:n]); err != nil {
					return err
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
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
