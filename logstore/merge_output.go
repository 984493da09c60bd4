package logstore

import (
	"errors"

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
		want := j.ledger()
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
