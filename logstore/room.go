package logstore

import "github.com/go-partd/partd/internal/vfs"

// What a change that failed, or that had nothing to do, has written is given
// back at once: it may be what fills the disk. Where that fails nothing is lost
// but room, so that an error is only noted.

// cutBack cuts off what is behind the end of a data file. Whoever calls it may
// write there.
func (s *Store) cutBack(f *dataFile) {
	if s.poisoned() != nil {
		return // a manifest of which nobody knows whether it is in place may refer to it
	}
	if err := f.f.Truncate(f.end); err != nil {
		s.log.Warn("logstore: what a failed change left in a file could not be cut off", "path", f.Path, "err", err)
	}
}

// punch gives back a part of a file that is followed by others, where the system
// can do that.
func (s *Store) punch(f vfs.File, off, n int64) {
	p, ok := f.(vfs.Puncher)
	if !ok || s.poisoned() != nil {
		return
	}
	if err := p.Punch(off, n); err != nil {
		s.log.Warn("logstore: what a failed change left in a file could not be given back", "path", f.Name(), "err", err)
	}
}
