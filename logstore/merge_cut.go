package logstore

import (
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// What was merged may have followed other segments in a file, which is then
// shortened. Readers of the same store are waited for, by version. Those that
// outlive a store that was closed, here or in another process, hold a shared
// lock of each file.

var errStillRead = errors.New("it is still being read")

// shortenFiles cuts off what merged segments left behind the end of a file, of
// which no more will be written.
func (s *Store) shortenFiles() {
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile || f == s.sealer.file {
			continue
		}
		if size, err := f.size(); err != nil || size > f.end {
			s.cutOff(f, f.end)
		}
	}
}

// stillThere leaves out the files of a store that was dropped. mu is held.
func (ss *segments) stillThere(cuts []fileCut) []fileCut {
	if len(cuts) == 0 || ss.closed { // then another process may have the store; it cuts them itself
		return nil
	}
	files := ss.catalog.files.files()
	return slices.DeleteFunc(slices.Clone(cuts), func(c fileCut) bool { return !slices.Contains(files, c.file) })
}

// lockForReaders makes others leave the files of a closed store as they are
// until its last reader ends. mu is held.
func (s *Store) lockForReaders() {
	if s.catalog.files.refs.Load() == 1 {
		return // there is none
	}
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile {
			continue
		}
		l := s.fs.NewLock(f.Path)
		if got, err := l.TryLock(false); err != nil || !got {
			s.log.Warn("logstore: a file that is still being read could not be locked", "path", f.Path, "err", err)
			continue
		}
		s.catalog.files.locks = append(s.catalog.files.locks, l)
	}
}

func unlockAll(locks []vfs.Lock) error {
	var errs []error
	for _, l := range locks {
		errs = append(errs, l.Unlock())
	}
	return errors.Join(errs...)
}
