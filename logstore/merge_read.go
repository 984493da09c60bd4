package logstore

import (
	"context"
)

// eachIn calls f for each entry of some segments of the view, in an interval of
// hashes, that belongs to no hot key, in order.
func (j *mergeJob) eachIn(first, end int, lo, hi uint64, f func(e *entry) error) error {
	visit := func(i int, g *segment) error {
		j.er.src, j.er.buf = &j.src, nil
		var e entry // outside of the loop, since f lets it escape
		for {
			var err error
			e, err = j.er.next()
			if isEOF(err) {
				return nil
			}
			if err != nil {
				return j.v.runError(i, err)
			}
			h := j.s.hashOfBytes(e.key)
			if h < lo || h > hi || j.isHot(h, e.key) {
				continue
			}
			if err := f(&e); err != nil {
				return err
			}
		}
	}
	for i := first; i < end; i++ {
		g := j.v.segments[i]
		if j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		j.src.reset(j.v.files, g.file, g.start+int64(g.off[g.rangeOf(lo)]), g.start+int64(g.off[g.rangeOf(hi)+1]))
		if err := visit(i, g); err != nil {
			return err
		}
		// Keys that are hot no more.
		hot := g.hotIn(lo, hi)
		for at := range hot {
			h := &hot[at]
			if j.isHot(h.hash, h.key) {
				continue
			}
			j.src.reset(j.v.files, g.file, g.start+int64(h.off), g.start+int64(h.off)+int64(h.n))
			if err := visit(i, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachOf calls f for each entry of a key in some segments of the view.
func (j *mergeJob) eachOf(h *hotRun, first, end int, f func(e *entry) error) error {
	for i := first; i < end; i++ {
		if j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		src, _ := j.v.keySource(i, h.hash, h.key, &j.src)
		j.er.src, j.er.buf = src, nil
		for {
			e, err := j.er.next()
			if isEOF(err) {
				break
			}
			if err != nil {
				return j.v.runError(i, err)
			}
			if string(e.key) != string(h.key) {
				continue
			}
			if err := f(&e); err != nil {
				return err
			}
		}
	}
	return nil
}
