package logstore

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// background runs the goroutine that merges segments and reclaims space. Store.mu guards its fields.
type background struct {
	*merging
	reclaimer *reclaimer

	running      bool
	cancel       context.CancelFunc
	done         chan struct{} // closed when the goroutine ends
	isReclaiming bool          // reclaiming is in progress; it may take several merges
	reclaimErr   error         // error from the last attempt to reclaim space, or nil
}

// startIfDue starts merging or reclaiming space in the background if either is due. mu must be held.
func (bg *background) startIfDue() {
	if bg.running || bg.isStopping || bg.checkWritable() != nil {
		return
	}
	if _, due := bg.dueMerge(); !due && !bg.reclaimDue() {
		return
	}
	var ctx context.Context
	ctx, bg.cancel = context.WithCancel(context.Background())
	bg.running, bg.done = true, make(chan struct{})
	go bg.mergeAll(ctx, bg.done)
}

// mergeAll merges segments and reclaims space until nothing is due.
func (bg *background) mergeAll(ctx context.Context, done chan struct{}) {
	bg.locks.mu.Lock()
	defer bg.locks.mu.Unlock()
	for ctx.Err() == nil {
		if bg.reclaimDue() && bg.checkWritable() == nil {
			bg.isReclaiming = true
			bg.locks.mu.Unlock()
			err := bg.reclaimer.run(ctx)
			bg.locks.mu.Lock()
			bg.bytes, bg.memory, bg.isReclaiming, bg.reclaimErr = 0, 0, false, nil
			if err != nil && ctx.Err() == nil && !errors.Is(err, errDropped) {
				bg.log.Warn("logstore: reclaiming space failed", "dir", bg.dir, "err", err)
				bg.reclaim.recordFailure()
				bg.reclaimErr = err
			}
			continue
		}
		j := bg.nextMerge(ctx)
		if j == nil {
			break
		}
		bg.locks.mu.Unlock()
		err := j.run()
		bg.locks.mu.Lock()
		bg.bytes, bg.memory = 0, 0
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, errDropped) {
				break
			}
			bg.log.Warn("logstore: merging segments failed; they remain unmerged", "dir", bg.dir, "err", err)
			bg.retryCount = len(bg.segments.list) + minMerge
			bg.segments.wasted.Store(0)
			break
		}
		bg.retryCount = 0
	}
	bg.running = false
	bg.cancel()
	close(done)
}

// stop ends the background merge before the store closes. It cancels a long merge and lets a short
// one finish.
func (bg *background) stop() {
	bg.locks.mu.Lock()
	defer bg.locks.mu.Unlock()
	bg.isStopping = true
	if !bg.running {
		return
	}
	if bg.bytes > maxCloseMerge || bg.isReclaiming && bg.segments.size.Load() > maxCloseMerge {
		bg.cancel()
	}
	done := bg.done
	bg.locks.mu.Unlock()
	<-done
	bg.locks.mu.Lock()
}

// reclaimDue reports whether to measure the dead data now. If a measurement is due later,
// it schedules one. mu must be held.
func (bg *background) reclaimDue() bool {
	due, wait := bg.reclaim.due(bg.segments.size.Load(), bg.segments.oldVersions > 0)
	if wait > 0 && !bg.reclaim.hasTimer {
		bg.reclaim.hasTimer = true
		time.AfterFunc(wait, func() {
			bg.locks.mu.Lock()
			defer bg.locks.mu.Unlock()
			bg.reclaim.hasTimer = false
			bg.startIfDue()
		})
	}
	return due
}

// reclaimNow starts to reclaim space if there may be dead data, then waits until neither reclaiming
// nor a merge is due. See Store.Reclaim.
func (bg *background) reclaimNow(ctx context.Context) (freed int64, err error) {
	bg.locks.mu.Lock()
	defer bg.locks.mu.Unlock()
	if err := bg.checkWritable(); err != nil {
		return 0, err
	}
	r := bg.reclaim
	before := r.freed
	bg.reclaimErr = nil
	neverMeasured := r.nextTime.IsZero() // if so, there may be dead large values from before Open
	if (neverMeasured || r.suspect.possible > 0) && time.Now().After(r.nextTime) {
		r.mustMeasure, r.isSlackReduced, r.slack = true, true, min(r.slack, bg.segments.size.Load()/8)
		bg.startIfDue()
	}
	if bg.running {
		done := bg.done
		bg.locks.mu.Unlock()
		err = canceled.Wait(ctx, done) // reclaiming continues if ctx ends
		bg.locks.mu.Lock()
	}
	return r.freed - before, cmp.Or(err, bg.reclaimErr)
}
