package logstore

import "github.com/go-partd/partd/internal/segment"

// version is the list of segments from one merge to the next. Readers hold the
// one that they began with. All fields are guarded by Store.mu.
type version struct {
	refs int // readers, plus one for the store or for the version before

	// Once this version and all before it are out of use, nobody reads the
	// doomed files any more, nor what follows a cut.
	doomed []*dataFile
	cuts   []fileCut
	next   *version
}

// fileCut is a file whose last segments were merged into another.
type fileCut struct {
	file *dataFile
	end  int64
}

// holdVersion counts a reader of the segments. mu is held.
func (s *Store) holdVersion() *version {
	s.version.refs++
	return s.version
}

// releaseVersion counts one reader less, and lets go of files that nobody reads
// any more. mu is held.
func (s *Store) releaseVersion(v *version) {
	for v != nil {
		if v.refs--; v.refs > 0 {
			return
		}
		if s.discard(v.doomed, v.cuts); v != s.version {
			if s.oldVersions--; s.oldVersions == 0 && s.reclaim.force {
				s.considerMerge()
			}
		}
		v = v.next // which the one before it held
	}
}

// nextVersion begins a version. What the one before alone holds is given. mu is
// held.
func (s *Store) nextVersion(doomed []*dataFile, cuts []fileCut) {
	old := s.version
	s.version = &version{refs: 2}
	s.oldVersions++
	old.doomed, old.cuts, old.next = doomed, cuts, s.version
	s.releaseVersion(old)
}

// discard closes and shortens files. Freeing their blocks may take a while, so
// a goroutine does it, for which Close waits. mu is held.
func (s *Store) discard(doomed []*dataFile, cuts []fileCut) {
	cuts = s.stillThere(cuts)
	if len(doomed)+len(cuts) == 0 {
		return
	}
	free := func() {
		// A sync of the files that were there when it began may be under way.
		s.syncs.Lock()
		defer s.syncs.Unlock()
		for _, f := range doomed {
			s.warn(f.f.Close(), "closing a merged file failed", "path", f.Path)
		}
		for _, c := range cuts {
			s.cutOff(c.file, c.end)
		}
	}
	if s.closed {
		free()
		return
	}
	s.discards.Go(free)
}

// storedSegment is a segment in a data file, whole from one opening, seal or
// merge on.
type storedSegment struct {
	segment.Layout
	file   *dataFile
	ledger Ledger
}
