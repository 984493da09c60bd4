package logstore

import (
	"errors"

	"github.com/go-partd/partd/internal/engine/segment"
)

func (j *mergeJob) begin() error {
	f, err := j.catalog.createUnregistered()
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
	var l segment.Ledger
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
	if j.current.ledger == (segment.Ledger{}) { // all entries were dead
		f := j.current.file
		j.current = nil
		return errors.Join(f.f.Close(), j.fs.Remove(f.Path))
	}
	if len(j.outputs) == 0 && j.wroteBlob && !j.readsBlobs {
		// The merge has not read the large values, so compute the checksum from the inputs'
		// ledgers. If the output has more than this segment, the next call to finish returns
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
			errs = append(errs, j.fs.Remove(seg.file.Path))
		}
	}
	j.outputs, j.current = nil, nil
	return errors.Join(errs...)
}
