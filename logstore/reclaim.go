package logstore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Deleted and replaced values stay in segments, as dead data, until a merge omits them. The store
// decides in two steps whether such a merge is worthwhile:
//
//  1. Each delete or replacement marks all bytes in its key's part of the hash space as possibly
//     dead, which needs no reads. The store learns which share of such bytes is usually dead.
//  2. If the expected number of dead bytes exceeds a limit (see maxDead), the store reads its
//     segments and measures the dead bytes of each. The learned share may be wrong. So the store
//     occasionally also measures if only the number of possibly dead bytes exceeds the limit.
//
// After a measurement, the store rewrites the segments with the most dead bytes, a few files at a
// time, so that little temporary space is needed.

// run frees dead space. No lock may be held.
func (rc *reclaimer) run(ctx context.Context) error {
	oldFiles, err := rc.oldBlobFiles(ctx)
	if err != nil {
		return err
	}
	rc.locks.lifeMu.RLock()
	rc.locks.mu.Lock()
	files, suspect := rc.catalog.files, rc.reclaim.suspect
	rc.reclaim.suspect = suspicion{}
	clear(rc.reclaim.parts)
	err = rc.journal.flush(ctx)
	rc.locks.mu.Unlock()
	rc.locks.lifeMu.RUnlock()
	flushErr := err
	if isFull(err) {
		oldFiles, err = nil, nil // free at least the dead data in segments
	}
	if err != nil {
		return err
	}
	referenced, err := rc.measureWaste(ctx, oldFiles, suspect.likely)
	if err != nil {
		return err
	}
	for {
		j, err := rc.nextReclaim(ctx)
		if err != nil {
			return err
		}
		if j == nil {
			break
		}
		if err := j.run(); err != nil {
			return err
		}
		for f, n := range j.freed {
			referenced[f] -= n
		}
	}
	if err := rc.sweepBlobs(ctx, files, oldFiles, referenced); err != nil {
		return err
	}
	if flushErr != nil {
		return flushErr // recordFailure schedules another attempt
	}
	rc.locks.mu.Lock()
	rc.reclaim.failures = 0
	rc.locks.mu.Unlock()
	return nil
}

// nextReclaim returns the next merge that reclaims space, or nil if none is worth its cost.
// It chooses the file with the most bytes to free per byte to write. The following files join
// the merge while each of them frees more than it writes and the merge writes only a small part
// of the store. mu must not be held.
func (rc *reclaimer) nextReclaim(ctx context.Context) (*mergeJob, error) {
	free, err := rc.free()
	if err != nil {
		return nil, err
	}
	room := free - free/8 - 1<<20
	rc.locks.mu.Lock()
	defer rc.locks.mu.Unlock()
	rc.journal.waitSealed()
	if ctx.Err() != nil || rc.checkWritable() != nil {
		return nil, canceled.Err(ctx)
	}
	files := rc.reclaim.groupByFile(rc.segments.list)
	best, tooLarge := -1, int64(0)
	for i, f := range files {
		switch {
		case f.gain == 0:
		case f.live > room:
			tooLarge = f.live
		case best < 0 || float64(f.gain)*float64(files[best].live+1) > float64(files[best].gain)*float64(f.live+1):
			best = i
		}
	}
	mustReclaim := rc.reclaim.wasted > rc.reclaim.maxDead(rc.segments.size.Load()-rc.reclaim.garbage)
	if best < 0 && mustReclaim && tooLarge > 0 {
		return nil, fmt.Errorf("reclaiming space temporarily needs %d bytes of disk, but only %d are free", tooLarge, room)
	}
	if best < 0 || !mustReclaim && files[best].gain < files[best].live {
		return nil, nil
	}
	live := files[best].live
	maxLive := min(room, max(rc.reclaim.slack, (rc.segments.size.Load()-rc.reclaim.dead())/8))
	joins := func(i int) bool {
		if i == len(files) || files[i].gain < files[i].live || live+files[i].live > maxLive {
			return false
		}
		live += files[i].live
		return true
	}
	last := best
	for joins(last + 1) {
		last++
	}
	return rc.newMerge(ctx, files[best].first, files[last].end, true), nil
}
