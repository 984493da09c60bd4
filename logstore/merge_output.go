package logstore

import (
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

func (j *mergeJob) begin() error {
	f, err := j.s.catalog.createUnregistered()
	if err != nil {
		return err
	}
	j.current = &storedSegment{file: f}
	j.w = segment.NewWriter(&f.File, f.f, f.end, j.bits, j.comp, [2][]byte{})
	return nil
}

func (j *mergeJob) beginRange(i int) error {
	if j.w.Size() > j.maxLen {
		if err := j.split(); err != nil {
			return err
		}
	}
	j.w.BeginRange(i)
	return nil
}

func (j *mergeJob) split() error {
	if err := j.finish(); err != nil {
		return err
	}
	return j.begin()
}

func (j *mergeJob) put(e *segment.Entry) error {
	if err := j.addToLedgers(e); err != nil {
		return err
	}
	return j.w.Write(e.Raw)
}

func (j *mergeJob) addToLedgers(e *segment.Entry) error {
	var l Ledger
	switch {
	case e.Kind != segment.KindBlob:
		addInline(&l, e)
	case j.readsBlobs:
		if err := j.view.files.addEntry(&l, e); err != nil {
			return err
		}
	default:
		n, err := e.ValueLen()
		if err != nil {
			return err
		}
		j.wroteBlob = true
		l.Pieces, l.Bytes = 1, n
	}
	j.total.Add(l)
	j.current.ledger.Add(l)
	return nil
}

func (j *mergeJob) finish() error {
	if len(j.outputs) > 0 && j.wroteBlob && !j.readsBlobs {
		return errSplitBlobs
	}
	if j.current.ledger == (Ledger{}) { // all entries were dead
		f := j.current.file
		j.current = nil
		return errors.Join(f.f.Close(), j.s.fs.Remove(f.Path))
	}
	if len(j.outputs) == 0 && j.wroteBlob && !j.readsBlobs {
		// The merge has not read the large values, so compute the checksum from the inputs'
		// ledgers. If the output has more than this segment, the next call of finish returns
		// errSplitBlobs, and the merge starts again.
		want := ledgerOf(j.inputs())
		want.Sub(j.dropped)
		j.current.ledger.Sum = want.Sum
	}
	if err := j.w.Finish(j.current.ledger.Append(nil)); err != nil {
		return err
	}
	j.current.Layout, j.current.file.end = j.w.Layout, j.w.End
	j.outputs = append(j.outputs, j.current)
	j.current = nil
	return nil
}

func (j *mergeJob) undo(remove bool) error {
	var errs []error
	if j.current != nil {
		j.outputs = append(j.outputs, j.current)
	}
	for _, seg := range j.outputs {
		errs = append(errs, seg.file.f.Close())
		if remove {
			errs = append(errs, j.s.fs.Remove(seg.file.Path))
		}
	}
	j.outputs, j.current = nil, nil
	return errors.Join(errs...)
}

// commit atomically replaces the merged segments with the new ones.
func (j *mergeJob) commit() error {
	// Sync the new files even in a store without syncs: the old files, which will be removed, were
	// probably on disk already. Sync before taking locks, because syncing is slow.
	for _, seg := range j.outputs {
		if err := seg.file.f.Sync(); err != nil {
			return err
		}
		seg.file.dirty.Store(false)
	}
	if err := errors.Join(j.s.syncExclusive(j.s.syncDir), j.ctx.Err()); err != nil {
		return err
	}
	doomed, err := j.replace()
	for _, f := range doomed {
		j.s.warn(j.s.fs.Remove(f.Path), "a merged file could not be removed; the next Open will retry", "path", f.Path)
	}
	return err
}

// replace commits the new segments, and returns the files to remove.
func (j *mergeJob) replace() ([]*dataFile, error) {
	s := j.s
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	s.firstSync.Lock() // otherwise, a concurrent first Sync could sync only the old files
	defer s.firstSync.Unlock()
	s.mu.Lock()
	dropped := s.catalog.files != j.view.files || s.closed
	s.mu.Unlock()
	if dropped {
		return nil, errDropped
	}
	first := j.inputs()[0]
	var doomed []*dataFile
	var cuts []fileCut
	for _, seg := range j.inputs() {
		switch {
		case seg.file == first.file && first.Start > segment.HeaderLen:
			if len(cuts) == 0 {
				cuts = append(cuts, fileCut{seg.file, first.Start})
			}
		case !slices.Contains(doomed, seg.file):
			doomed = append(doomed, seg.file)
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
	laterSegments := s.segments.list[j.listIndex+len(j.inputs()):]
	s.segments.list = s.segments.limitIndex(slices.Concat(s.segments.list[:j.listIndex], j.outputs, laterSegments))
	if s.sealer.rotate.Load() && !s.journal.sealing && len(laterSegments) == 0 { // no segment was sealed during the merge
		s.sealer.file = nil
		if n := len(j.outputs); n > 0 {
			s.sealer.file = j.outputs[n-1].file
		}
		s.sealer.rotate.Store(false)
	}
	j.forgetWaste()
	s.segments.startVersion(doomed, cuts)
	s.segments.wasted.Store(0)
	s.segments.wasteLimit.Store(0)
	return doomed, nil
}

func (j *mergeJob) replaceManifest(doomed []*dataFile, cuts []fileCut) error {
	s := j.s
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	m := s.catalog.manifest
	m.ledger.Sub(j.dropped)
	m.removedLedger.Add(j.dropped)
	pos := -1
	m.files = nil
	for _, ref := range s.catalog.manifest.files {
		switch {
		case ref.kind != segment.SegmentFile:
		case len(cuts) > 0 && ref.number == cuts[0].file.Number:
			ref.end = cuts[0].end
			pos = len(m.files) + 1
		case slices.ContainsFunc(doomed, func(f *dataFile) bool { return f.Number == ref.number }):
			if pos < 0 {
				pos = len(m.files)
			}
			continue
		}
		m.files = append(m.files, ref)
	}
	var refs []fileRef
	var files []*dataFile
	for _, seg := range j.outputs {
		refs = append(refs, fileRef{segment.SegmentFile, seg.file.Number, seg.End})
		files = append(files, seg.file)
	}
	m.files = slices.Insert(m.files, pos, refs...)
	if err := s.catalog.replace(m, true); err != nil {
		return err
	}
	s.catalog.files.replace(doomed, files...)
	return nil
}
