package logstore

import (
	"context"
)

// eachIn calls f for each entry of some segments of the view, in an interval of
// hashes, that belongs to no hot key, in order.
func (j *mergeJob) eachIn(first, end int, lo, hi uint64, f func(e *entry) error) error {
	visit := func(i int, g *storedSegment) error {
		return j.v.runError(i, j.er.each(&j.src, func(e *entry) error {
			if h := j.s.hashBytes(e.key); h < lo || h > hi || j.isHot(h, e.key) {
				return nil
			}
			return f(e)
		}))
	}
	for i := first; i < end; i++ {
		g := j.v.segments[i]
		if j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		j.src.reset(&g.file.file, g.start+int64(g.off[g.rangeOf(lo)]), g.start+int64(g.off[g.rangeOf(hi)+1]))
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
			j.src.reset(&g.file.file, g.start+int64(h.off), g.start+int64(h.off)+int64(h.n))
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
		err := j.er.each(src, func(e *entry) error {
			if string(e.key) != string(h.key) {
				return nil
			}
			return f(e)
		})
		if err != nil {
			return j.v.runError(i, err)
		}
	}
	return nil
}
