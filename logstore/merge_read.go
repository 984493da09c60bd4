package logstore

import (
	"context"

	"github.com/go-partd/partd/internal/segment"
)

// eachIn calls f for each entry of some segments of the view, in an interval of
// hashes, that belongs to no hot key, in order.
func (j *mergeJob) eachIn(first, end int, lo, hi uint64, f func(e *segment.Entry) error) error {
	visit := func(i int, g *storedSegment) error {
		return j.v.runError(i, j.er.Each(&j.src, func(e *segment.Entry) error {
			if h := j.s.format.HashBytes(e.Key); h < lo || h > hi || j.isHot(h, e.Key) {
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
		g.ranges(&j.src, lo, hi)
		if err := visit(i, g); err != nil {
			return err
		}
		// Keys that are hot no more.
		hot := g.HotIn(lo, hi)
		for at := range hot {
			h := &hot[at]
			if j.isHot(h.Hash, h.Key) {
				continue
			}
			g.hotRun(&j.src, h)
			if err := visit(i, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachOf calls f for each entry of a key in some segments of the view.
func (j *mergeJob) eachOf(h *segment.HotRun, first, end int, f func(e *segment.Entry) error) error {
	for i := first; i < end; i++ {
		if j.ctx.Err() != nil {
			return context.Cause(j.ctx)
		}
		src, _ := j.v.keySource(i, h.Hash, h.Key, &j.src)
		err := j.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(h.Key) {
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
