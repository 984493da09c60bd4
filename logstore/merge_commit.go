package logstore

import (
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// commit makes the new segments part of the store, in the place of the merged
// ones, by one replacement of the manifest.
func (j *mergeJob) commit() error {
	// The merged files go, and with them what the disk has of their data since
	// long ago. So the new ones are synced first, also where nobody asked for
	// it. That takes a while: it is done before the locks.
	for _, g := range j.out {
		if err := j.s.syncFile(g.file.f); err != nil {
			return err
		}
		g.file.dirty.Store(false)
	}
	if err := errors.Join(j.s.syncAlone(j.s.syncDir), j.ctx.Err()); err != nil {
		return err
	}
	doomed, err := j.replace()
	for _, f := range doomed {
		j.s.warn(j.s.fs.Remove(f.Path), "a merged file could not be removed; the next opening will", "path", f.Path)
	}
	return err
}

// replace returns the files that are no longer part of the store.
func (j *mergeJob) replace() ([]*dataFile, error) {
	s := j.s
	s.life.RLock()
	defer s.life.RUnlock()
	s.firstSync.Lock() // what the first Sync syncs must include the new files
	defer s.firstSync.Unlock()
	s.mu.Lock()
	dropped := s.catalog.files != j.v.files || s.closed
	s.mu.Unlock()
	if dropped {
		return nil, errDropped
	}
	first := j.inputs()[0]
	var doomed []*dataFile
	var cuts []fileCut
	for _, g := range j.inputs() {
		switch {
		case g.file == first.file && first.Start > segment.HeaderLen:
			if len(cuts) == 0 {
				cuts = append(cuts, fileCut{g.file, first.Start})
			}
		case !slices.Contains(doomed, g.file):
			doomed = append(doomed, g.file)
		}
	}
	if err := j.replaceManifest(doomed, cuts); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cuts {
		c.file.end = c.end
	}
	after := s.segments.list[j.from+len(j.inputs()):]
	s.segments.list = s.segments.withinMemory(slices.Concat(s.segments.list[:j.from], j.out, after))
	if s.sealer.rotate.Load() && !s.sealing && len(after) == 0 { // no segment was written since
		s.sealer.file = nil
		if n := len(j.out); n > 0 {
			s.sealer.file = j.out[n-1].file
		}
		s.sealer.rotate.Store(false)
	}
	j.forgetWaste()
	s.segments.next(doomed, cuts)
	s.merging.wasted.Store(0)
	s.merging.wasteLimit.Store(0)
	return doomed, nil
}

// replaceManifest names the new files in the place of the merged ones.
func (j *mergeJob) replaceManifest(doomed []*dataFile, cuts []fileCut) error {
	s := j.s
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	m := s.catalog.man
	m.ledger.Sub(j.removed)
	m.removed.Add(j.removed)
	at := -1
	m.files = nil
	for _, ref := range s.catalog.man.files {
		switch {
		case ref.kind != segment.SegmentFile:
		case len(cuts) > 0 && ref.number == cuts[0].file.Number:
			ref.end = cuts[0].end
			at = len(m.files) + 1
		case slices.ContainsFunc(doomed, func(f *dataFile) bool { return f.Number == ref.number }):
			if at < 0 {
				at = len(m.files)
			}
			continue
		}
		m.files = append(m.files, ref)
	}
	var refs []fileRef
	var files []*dataFile
	for _, g := range j.out {
		refs = append(refs, fileRef{segment.SegmentFile, g.file.Number, g.End})
		files = append(files, g.file)
	}
	m.files = slices.Insert(m.files, at, refs...)
	if err := s.catalog.replace(m, true); err != nil {
		// Where it may be in place after all, the store takes no more writes,
		// and the files of both stay for the next opening to choose.
		return err
	}
	s.catalog.files.swap(doomed, files...)
	return nil
}
