package logstore

import (
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// What a later Set or Delete of the same key made dead, a merge leaves out: of
// a key, all before the last reset. The last reset itself is needed as long as
// older segments have something of the key, and a Set always, since it says that
// the key exists.

// reset is what is known of a key that is set or deleted.
type reset struct {
	count int  // how often, in the segments that are merged and those after them
	seen  int  // how many of them were passed
	in    int  // one more than the first segment that has the key, as a measurement found
	older bool // or may be: older segments have something of the key
}

// resetCost is about what a key takes in memory beside its bytes.
const resetCost = 80

// findResets notes the keys of an interval that are reset. It gives up with
// errTooMuch where they take more than limit bytes.
func (j *mergeJob) findResets(lo, hi uint64, limit int64) error {
	return j.noteResets(limit, func(first, end int, f func(e *segment.Entry) error) error {
		return j.eachIn(first, end, lo, hi, f)
	})
}

// noteResets notes the resets among the entries that each yields of segments.
func (j *mergeJob) noteResets(limit int64, each func(first, end int, f func(e *segment.Entry) error) error) error {
	j.resets = map[string]*reset{}
	var bytes int64
	for i := j.first; i < len(j.v.segments); i++ {
		if j.v.segments[i].ledger.Marks == 0 {
			continue
		}
		err := each(i, i+1, func(e *segment.Entry) error {
			if e.Kind != segment.KindSet && e.Kind != segment.KindDelete {
				return nil
			}
			r := j.resets[string(e.Key)]
			if r == nil {
				if bytes += resetCost + int64(len(e.Key)); bytes > limit {
					return errTooMuch
				}
				r = &reset{older: !j.pastKnown}
				j.resets[string(e.Key)] = r
			}
			r.count++
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(j.resets) == 0 || j.first == 0 {
		return nil
	}
	return each(0, j.first, func(e *segment.Entry) error {
		if r := j.resets[string(e.Key)]; r != nil {
			r.older = true
		}
		return nil
	})
}

// isDead reports whether an entry makes no difference. It must be asked of the
// entries of a key one after the other.
func (j *mergeJob) isDead(e *segment.Entry) bool {
	r := j.resets[string(e.Key)]
	if r == nil {
		return false
	}
	if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
		if r.seen++; r.seen == r.count {
			return e.Kind == segment.KindDelete && !r.older
		}
	}
	return r.seen < r.count
}

// eachLive calls f for each entry in an interval that is not dead, and accounts
// for those that are.
func (j *mergeJob) eachLive(lo, hi uint64, f func(e *segment.Entry) error) error {
	return j.leaveOut(func(f func(e *segment.Entry) error) error { return j.eachIn(j.first, j.end, lo, hi, f) }, f)
}

func (j *mergeJob) leaveOut(each func(func(e *segment.Entry) error) error, f func(e *segment.Entry) error) error {
	for _, r := range j.resets {
		r.seen = 0
	}
	var removed Ledger
	freed := map[uint32]int64{}
	err := each(func(e *segment.Entry) error {
		if !j.isDead(e) {
			return f(e)
		}
		if e.Kind != segment.KindBlob {
			account(&removed, e)
			return nil
		}
		if j.ctx.Err() != nil {
			return canceled.Err(j.ctx)
		}
		ref, err := segment.ParseBlobRef(e.Value)
		if err != nil {
			return err
		}
		freed[ref.File] += ref.Stored()
		return j.v.files.accountAll(&removed, e)
	})
	if err != nil {
		return err // errTooMuch: it is tried again in parts
	}
	j.removed.Add(removed)
	for file, n := range freed {
		j.freed[file] += n
	}
	return nil
}

// eachIn calls f for each entry of some segments of the view, in an interval of
// hashes, that belongs to no hot key, in order.
func (j *mergeJob) eachIn(first, end int, lo, hi uint64, f func(e *segment.Entry) error) error {
	visit := func(i int) error {
		return j.v.runError(i, j.er.Each(&j.src, func(e *segment.Entry) error {
			if h := j.s.format.HashBytes(e.Key); h < lo || h > hi || findHot(j.hot, h, e.Key) {
				return nil
			}
			return f(e)
		}))
	}
	for i := first; i < end; i++ {
		g := j.v.segments[i]
		if j.ctx.Err() != nil {
			return canceled.Err(j.ctx)
		}
		g.ranges(&j.src, lo, hi)
		if err := visit(i); err != nil {
			return err
		}
		// Keys that are hot no more.
		hot := g.HotIn(lo, hi)
		for at := range hot {
			h := &hot[at]
			if findHot(j.hot, h.Hash, h.Key) {
				continue
			}
			g.hotRun(&j.src, h)
			if err := visit(i); err != nil {
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
			return canceled.Err(j.ctx)
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
