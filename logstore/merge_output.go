package logstore

import (
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// begin begins a segment in a file of its own.
func (j *mergeJob) begin() error {
	f, err := j.s.catalog.addUnnamed()
	if err != nil {
		return err
	}
	j.g = &storedSegment{file: f}
	j.w = segment.NewWriter(&f.File, f.f, f.end, j.bits, j.comp, [2][]byte{})
	return nil
}

// beginRange begins a range, in another segment where the one before is long.
func (j *mergeJob) beginRange(i int) error {
	if j.w.Written() > j.maxLen {
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

// put writes an entry to the run that was begun.
func (j *mergeJob) put(e *segment.Entry) error {
	if err := j.account(e); err != nil {
		return err
	}
	return j.w.Write(e.Raw)
}

func (j *mergeJob) account(e *segment.Entry) error {
	var l Ledger
	switch {
	case e.Kind != segment.KindBlob:
		account(&l, e)
	case j.exact:
		if err := j.v.files.accountAll(&l, e); err != nil {
			return err
		}
	default:
		n, err := e.ValueLen()
		if err != nil {
			return err
		}
		j.blobs = true
		l.Pieces, l.Bytes = 1, n
	}
	j.total.Add(l)
	j.g.ledger.Add(l)
	return nil
}

// writeHot writes a key's run, in the order of the segments.
func (j *mergeJob) writeHot(h *segment.HotRun) error {
	j.w.BeginRun()
	var size keySize
	end := func() {
		j.w.EndRun(segment.HotRun{Hash: h.Hash, Key: h.Key, Bytes: size.bytes, Reset: size.reset, Gone: size.gone})
	}
	err := j.noteResets(resetCost+segment.MaxHotKey, func(first, end int, f func(e *segment.Entry) error) error {
		return j.eachOf(h, first, end, f)
	})
	if err != nil {
		return err
	}
	err = j.leaveOut(func(f func(e *segment.Entry) error) error { return j.eachOf(h, j.first, j.end, f) }, func(e *segment.Entry) error {
		if j.w.Written() > j.maxLen {
			if size.encoded > 0 {
				end()
			}
			if err := j.split(); err != nil {
				return err
			}
			j.w.BeginRun()
			size = keySize{}
		}
		if err := size.add(e); err != nil {
			return err
		}
		return j.put(e)
	})
	if err == nil && size.encoded > 0 {
		end()
	}
	return err
}

func (j *mergeJob) finish() error {
	if len(j.out) > 0 && j.blobs && !j.exact {
		return errSplitBlobs
	}
	if j.g.ledger == (Ledger{}) { // all was left out
		f := j.g.file
		j.g = nil
		return errors.Join(f.f.Close(), j.s.fs.Remove(f.Path))
	}
	if len(j.out) == 0 && j.blobs && !j.exact {
		// It is one segment, or the next will end with errSplitBlobs.
		want := ledgerOf(j.inputs())
		want.Sub(j.removed)
		j.g.ledger.Sum = want.Sum
	}
	if err := j.w.Finish(j.g.ledger.Append(nil)); err != nil {
		return err
	}
	j.g.Layout, j.g.file.end = j.w.Layout, j.w.End
	j.out = append(j.out, j.g)
	j.g = nil
	return nil
}

// undo closes the files that were written, and removes them if asked.
func (j *mergeJob) undo(remove bool) error {
	var errs []error
	if j.g != nil {
		j.out = append(j.out, j.g)
	}
	for _, g := range j.out {
		errs = append(errs, g.file.f.Close())
		if remove {
			errs = append(errs, j.s.fs.Remove(g.file.Path))
		}
	}
	j.out, j.g = nil, nil
	return errors.Join(errs...)
}

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
