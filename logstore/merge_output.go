package logstore

import (
	"errors"
	"os"
	"slices"
)

// begin begins a segment in a file of its own. Ranges before a unit are empty.
func (j *mergeJob) begin(unit int) error {
	f, err := j.s.newMergeFile()
	if err != nil {
		return err
	}
	j.g = &segment{file: f, start: f.end, bits: j.bits, off: make([]uint32, unit+1, 1<<j.bits+1)}
	if j.comp.codec != None {
		j.g.raw = make([]uint32, 1<<j.bits)
	}
	j.ranges = false
	j.w = &segmentWriter{file: f, seed: j.s.seed, comp: j.comp, off: f.end, block: -1}
	return nil
}

// newMergeFile makes a file that the manifest does not name yet.
func (s *Store) newMergeFile() (*dataFile, error) {
	s.manMu.Lock()
	defer s.manMu.Unlock()
	f, err := s.createDataFile(segmentKind, &s.man.nextFile)
	if err != nil {
		return nil, err
	}
	if _, err := f.f.WriteAt(encodeDataHeader(f.kind, f.number, s.id, s.seed), 0); err != nil {
		return nil, errors.Join(err, f.f.Close(), s.fs.Remove(f.path))
	}
	f.dirty.Store(true)
	return f, nil
}

// createDataFile makes a file of the next number that is free.
func (s *Store) createDataFile(kind fileKind, last *uint32) (*dataFile, error) {
	f := &dataFile{kind: kind, end: dataHeaderLen, noCRC: s.hooks.noCRC}
	for {
		*last++
		f.number, f.path = *last, kind.name(s.dir, *last)
		var err error
		// A file that has the name already may be somebody else's.
		if f.f, err = s.fs.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
			return f, nil
		} else if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
	}
}

// beginUnit begins a range. Those before it that were not written are empty.
func (j *mergeJob) beginUnit(unit int) error {
	if j.w.position()-j.g.start > j.most {
		if err := j.split(unit); err != nil {
			return err
		}
	}
	for len(j.g.off) <= unit {
		j.g.off = append(j.g.off, uint32(j.w.position()-j.g.start))
	}
	j.w.total = 0
	return nil
}

func (j *mergeJob) endUnit(unit int) {
	j.w.endBlock()
	if j.g.raw != nil {
		j.g.raw[unit] = uint32(j.w.total)
	}
	// Where the next one begins.
	j.g.off = append(j.g.off[:unit+1], uint32(j.w.position()-j.g.start))
}

// split ends the segment and begins another.
func (j *mergeJob) split(unit int) error {
	if err := j.finish(); err != nil {
		return err
	}
	return j.begin(unit)
}

// endRanges says that the rest of the ranges is empty.
func (j *mergeJob) endRanges() {
	for !j.ranges && len(j.g.off) < 1<<j.bits+1 {
		j.g.off = append(j.g.off, uint32(j.w.position()-j.g.start))
	}
	j.ranges = true
}

// put writes an entry to the run that was begun.
func (j *mergeJob) put(e *entry) error {
	if err := j.account(e); err != nil {
		return err
	}
	return j.w.write(e.raw)
}

// account counts an entry that is written.
func (j *mergeJob) account(e *entry) error {
	var l Ledger
	switch {
	case e.kind != kindBlob:
		e.account(&l)
	case j.exact:
		if err := j.s.accountBlob(j.v.files, &l, e); err != nil {
			return err
		}
	default:
		n, err := e.valueLen()
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
func (j *mergeJob) writeHot(h *hotRun) error {
	j.endRanges()
	at := j.w.position()
	var size keySize
	end := func() {
		j.w.endBlock()
		j.g.hot = append(j.g.hot, hotRun{
			hash: h.hash, key: h.key, off: uint32(at - j.g.start), n: uint32(j.w.position() - at),
			bytes: size.bytes, reset: size.reset, gone: size.gone,
		})
	}
	if err := j.findResetsOf(h); err != nil {
		return err
	}
	err := j.leaveOut(func(f func(e *entry) error) error { return j.eachOf(h, j.first, j.end, f) }, func(e *entry) error {
		if j.w.position()-j.g.start > j.most {
			if size.encoded > 0 {
				end()
			}
			if err := j.split(0); err != nil {
				return err
			}
			j.endRanges()
			at, size = j.w.position(), keySize{}
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

// finish ends the segment.
func (j *mergeJob) finish() error {
	if len(j.out) > 0 && j.blobs && !j.exact {
		return errSplitBlobs
	}
	j.endRanges()
	if j.g.ledger == (Ledger{}) { // all was left out
		f := j.g.file
		j.g = nil
		return errors.Join(f.f.Close(), j.s.fs.Remove(f.path))
	}
	slices.SortFunc(j.g.hot, compareHot)
	l := j.g.ledger
	if len(j.out) == 0 && j.blobs && !j.exact {
		// It is one segment, or the next will end with errSplitBlobs.
		want := j.ledger()
		want.sub(j.removed)
		l.Sum = want.Sum
		j.g.ledger = l
	}
	j.w.out = append(j.w.out, j.g.encodeFooter(j.s.seed, j.w.position())...)
	if err := j.w.flush(); err != nil {
		return err
	}
	j.g.end = j.w.off
	j.g.file.end = j.g.end
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
			errs = append(errs, j.s.fs.Remove(g.file.path))
		}
	}
	j.out, j.g = nil, nil
	return errors.Join(errs...)
}
