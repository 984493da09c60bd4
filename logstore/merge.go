package logstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// merging controls the goroutine that merges segments in the background. Store.mu guards it.
type merging struct {
	minCount int   // number of small segments at which a merge starts; if negative, the store never merges
	smallLen int64 // maximum length of a small segment
	maxLen   int64 // approximate maximum length of a merged segment

	running      bool
	cancel       context.CancelFunc
	done         chan struct{} // closed when the goroutine ends
	bytes        int64         // size of the segments being merged
	memory       int64         // bytes in use by the merge
	isReclaiming bool          // reclaiming is in progress; it may take several merges
	isStopping   bool          // the store is closing, so only short merges may start
	retryCount   int           // number of segments at which to merge again after a failure
}

// maxCloseMerge is the size of the largest merge that Close waits for, in bytes. If Close canceled
// all merges, a store that is opened often but briefly would accumulate segments.
const maxCloseMerge = 64 << 20

var errDropped = errors.New("the store was dropped or closed during the merge")

// considerMerge starts merging or reclaiming space in the background if either is due. mu must be
// held.
func (s *Store) considerMerge() {
	m := &s.merging
	if m.running || m.isStopping || s.checkWritable() != nil {
		return
	}
	if _, due := s.dueMerge(); !due && !s.reclaimDue() {
		return
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.running, m.done = true, make(chan struct{})
	go s.mergeAll(ctx, m.done)
}

// dueMerge reports whether to merge all segments from index first on. mu must be held.
func (s *Store) dueMerge() (first int, due bool) {
	// A merge that only speeds up Gets would also copy dead data. So dead data reduces the maximum
	// size of such a merge.
	return s.merging.firstDue(&s.segments, s.segments.size.Load()+s.reclaim.slack-2*s.reclaim.dead())
}

// firstDue reports whether to merge ss.list[first:]. A merge that only speeds up Gets must not exceed
// maxBytes.
func (m *merging) firstDue(ss *segments, maxBytes int64) (first int, due bool) {
	if m.minCount < 0 || len(ss.list) < m.retryCount {
		return 0, false
	}
	sizes := make([]int64, len(ss.list))
	for i, seg := range ss.list {
		sizes[i] = seg.UncompressedLen()
	}
	if first, due := dueSmall(sizes, m.smallLen, m.minCount); due {
		return first, true
	}
	for i, seg := range ss.list {
		sizes[i] = seg.StoredLen()
	}
	first, cost := bestMergeForGets(sizes)
	if cost == 0 {
		ss.wasteLimit.Store(math.MaxInt64)
		return 0, false
	}
	ss.wasteLimit.Store(cost)
	return first, sizeOf(ss.list[first:]) <= maxBytes && ss.wasted.Load() >= cost
}

// mergeAll merges segments and reclaims space until nothing is due.
func (s *Store) mergeAll(ctx context.Context, done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.merging
	for ctx.Err() == nil {
		if s.reclaimDue() && s.checkWritable() == nil {
			m.isReclaiming = true
			s.mu.Unlock()
			err := s.reclaimSpace(ctx)
			s.mu.Lock()
			m.bytes, m.memory, m.isReclaiming = 0, 0, false
			if err != nil && ctx.Err() == nil && !errors.Is(err, errDropped) {
				s.log.Warn("logstore: reclaiming space failed", "dir", s.dir, "err", err)
				s.reclaim.recordFailure()
			}
			continue
		}
		j := s.nextMerge(ctx)
		if j == nil {
			break
		}
		s.mu.Unlock()
		err := j.run()
		s.mu.Lock()
		m.bytes, m.memory = 0, 0
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, errDropped) {
				break
			}
			s.log.Warn("logstore: merging segments failed; they remain unmerged", "dir", s.dir, "err", err)
			m.retryCount = len(s.segments.list) + minMerge
			s.segments.wasted.Store(0)
			break
		}
		m.retryCount = 0
	}
	m.running = false
	m.cancel()
	close(done)
}

// nextMerge returns the next due merge, or nil. mu must be held; it is released while waiting.
func (s *Store) nextMerge(ctx context.Context) *mergeJob {
	s.journal.waitSealed()
	if ctx.Err() != nil || s.checkWritable() != nil {
		return nil
	}
	first, due := s.dueMerge()
	if !due {
		return nil
	}
	return s.newMerge(ctx, first, len(s.segments.list), false)
}

// newMerge prepares a merge of the segments [first, end). If readAll is set, the merge also reads
// all other segments to find dead entries. newMerge returns nil if the store is closing and the
// merge would take long. mu must be held.
func (s *Store) newMerge(ctx context.Context, first, end int, readAll bool) *mergeJob {
	inputs := s.segments.list[first:end]
	bytes := sizeOf(inputs)
	if s.merging.isStopping && bytes > maxCloseMerge {
		return nil
	}
	if s.sealer.file != nil && slices.ContainsFunc(inputs, func(seg *storedSegment) bool { return seg.file == s.sealer.file }) {
		// The merge will truncate or remove this file: write the next segment to another file.
		s.sealer.rotate.Store(true)
	}
	j := &mergeJob{s: s, ctx: ctx, listIndex: first, inputBytes: bytes, reclaims: readAll}
	if readAll {
		j.view, j.first, j.end, j.hasOldest = s.views.ofSegments(s.segments.list), first, end, true
	} else {
		j.view, j.end, j.hasOldest = s.views.ofSegments(inputs), len(inputs), first == 0
	}
	j.plan()
	s.merging.bytes, s.merging.memory = bytes, 2*j.limit+j.limit/2+2*segment.WriteSize
	return j
}

// stopMerging ends the background merge before the store closes: it cancels a long merge, and waits
// for a short one.
func (s *Store) stopMerging() {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.merging
	m.isStopping = true
	if !m.running {
		return
	}
	if m.bytes > maxCloseMerge || m.isReclaiming && s.segments.size.Load() > maxCloseMerge {
		m.cancel()
	}
	done := m.done
	s.mu.Unlock()
	<-done
	s.mu.Lock()
}

// run merges the segments and commits the result. After an error, it removes its output files.
func (j *mergeJob) run() error {
	err := j.checkSpace()
	if err == nil {
		err = j.write()
	}
	if err == errSplitBlobs {
		err = j.undo(true)
		if err == nil {
			j.readsBlobs = true
			err = j.write()
		}
	}
	if err == nil {
		err = j.commit()
	}
	if err != nil {
		// Keep the new files if the manifest may name them.
		u := maybeApplied{}
		err = errors.Join(err, j.undo(!errors.As(err, &u)))
	}
	s := j.s
	s.mu.Lock()
	if err != nil && !s.journal.sealing {
		s.sealer.rotate.Store(false) // nothing was merged: the current file can stay in use
	}
	s.mu.Unlock()
	return errors.Join(err, j.view.close())
}

// checkSpace returns an error if the merge would leave too little disk space for appends. It does
// not check merges that reclaim space, because nextReclaim has done so.
func (j *mergeJob) checkSpace() error {
	if j.reclaims {
		return nil
	}
	free, err := j.s.free()
	if need := j.inputBytes + j.inputBytes/8 + j.s.opts.Memory; err == nil && free < need {
		return fmt.Errorf("the merge temporarily needs %d bytes of disk, but only %d are free", need, free)
	}
	return err
}
