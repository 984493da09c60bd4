package logstore

import (
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// A merge drops dead entries: all entries of a key before its last Set or Delete. It also drops
// the last Delete, unless older segments contain entries of the key.

// findResets fills j.resets with the keys that were set or deleted and have hashes from lo to hi.
// It returns errRangeTooLarge if these keys need more than limit bytes of memory.
func (j *mergeJob) findResets(lo, hi uint64, limit int64) error {
	return j.collectResets(limit, func(first, end int, f func(e *segment.Entry) error) error {
		return j.eachEntryIn(first, end, lo, hi, f)
	})
}

// collectResets fills j.resets with the keys that were set or deleted. The function iterate must
// call f for each entry to consider in the segments [first, end) of the view.
// If the keys need more than limit bytes of memory, collectResets returns errRangeTooLarge.
func (j *mergeJob) collectResets(limit int64, iterate func(first, end int, f func(e *segment.Entry) error) error) error {
	j.resets = map[string]*keyReset{}
	var bytes int64
	for i := j.first; i < len(j.view.segments); i++ {
		if j.view.segments[i].ledger.Marks == 0 {
			continue
		}
		err := iterate(i, i+1, func(e *segment.Entry) error {
			if e.Kind != segment.KindSet && e.Kind != segment.KindDelete {
				return nil
			}
			r := j.resets[string(e.Key)]
			if r == nil {
				bytes += resetCost + int64(len(e.Key))
				if bytes > limit {
					return errRangeTooLarge
				}
				r = &keyReset{hasOlder: !j.hasOldest}
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
	return iterate(0, j.first, func(e *segment.Entry) error {
		if r := j.resets[string(e.Key)]; r != nil {
			r.hasOlder = true
		}
		return nil
	})
}

// isDead reports whether an entry has no effect. The caller must pass all merged entries of a key,
// in order.
func (j *mergeJob) isDead(e *segment.Entry) bool {
	r := j.resets[string(e.Key)]
	if r == nil {
		return false
	}
	if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
		r.passedCount++
		if r.passedCount == r.count {
			return e.Kind == segment.KindDelete && !r.hasOlder
		}
	}
	return r.passedCount < r.count
}

// eachLive calls f for each live entry with a hash from lo to hi. It adds dead entries to
// j.dropped.
func (j *mergeJob) eachLive(lo, hi uint64, f func(e *segment.Entry) error) error {
	return j.dropDead(func(f func(e *segment.Entry) error) error { return j.eachEntryIn(j.first, j.end, lo, hi, f) }, f)
}

// dropDead calls f for the live entries and adds the dead ones to j.dropped. The function iterate
// must call its argument for all merged entries.
func (j *mergeJob) dropDead(iterate func(func(e *segment.Entry) error) error, f func(e *segment.Entry) error) error {
	for _, r := range j.resets {
		r.passedCount = 0
	}
	var dropped segment.Ledger
	freed := map[uint32]int64{}
	err := iterate(func(e *segment.Entry) error {
		if !j.isDead(e) {
			return f(e)
		}
		if e.Kind != segment.KindBlob {
			addInline(&dropped, e)
			return nil
		}
		if j.ctx.Err() != nil {
			return canceled.Err(j.ctx)
		}
		ref, err := segment.ParseBlobRef(e.Value)
		if err != nil {
			return err
		}
		freed[ref.File] += ref.StoredLen()
		return j.view.files.addEntry(&dropped, e)
	})
	if err != nil {
		return err // leave j.dropped unchanged: after errRangeTooLarge, the caller retries with smaller intervals
	}
	j.dropped.Add(dropped)
	for file, n := range freed {
		j.freed[file] += n
	}
	return nil
}

// eachEntryIn calls f for the entries of the view's segments [first, end) with hashes from lo to
// hi, in order. It omits the keys in j.hot, which get separate runs.
func (j *mergeJob) eachEntryIn(first, end int, lo, hi uint64, f func(e *segment.Entry) error) error {
	visit := func(i int) error {
		return j.view.locateError(i, j.er.Each(&j.src, func(e *segment.Entry) error {
			if h := j.format.HashBytes(e.Key); h < lo || h > hi || segment.FindHot(j.hot, h, e.Key) != nil {
				return nil
			}
			return f(e)
		}))
	}
	for i := first; i < end; i++ {
		seg := j.view.segments[i]
		if j.ctx.Err() != nil {
			return canceled.Err(j.ctx)
		}
		seg.openRanges(&j.src, lo, hi)
		if err := visit(i); err != nil {
			return err
		}
		// Also visit the hot runs of keys that are not in j.hot.
		hot := seg.HotBetween(lo, hi)
		for k := range hot {
			h := &hot[k]
			if segment.FindHot(j.hot, h.Hash, h.Key) != nil {
				continue
			}
			seg.openHotRun(&j.src, h)
			if err := visit(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachOfKey calls f for the entries of one key in the view's segments [first, end).
func (j *mergeJob) eachOfKey(h *segment.HotRun, first, end int, f func(e *segment.Entry) error) error {
	for i := first; i < end; i++ {
		if j.ctx.Err() != nil {
			return canceled.Err(j.ctx)
		}
		src, _ := j.view.keySource(i, h.Hash, h.Key, &j.src)
		err := j.er.Each(src, func(e *segment.Entry) error {
			if string(e.Key) != string(h.Key) {
				return nil
			}
			return f(e)
		})
		if err != nil {
			return j.view.locateError(i, err)
		}
	}
	return nil
}
