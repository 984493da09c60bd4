package logstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// merging is the state of the goroutine that merges segments while there is work.
// Store.mu guards it.
type merging struct {
	minCount int   // number of small segments that makes a merge due; negative: never
	smallLen int64 // minimum length of a segment that is not small
	maxLen   int64 // approximate maximum length of a merged segment

	running   bool
	cancel    context.CancelFunc
	done      chan struct{} // closed when the goroutine ends
	bytes     int64         // size of the segments being merged
	memory    int64         // in use by the merge
	reclaims  bool          // reclaiming is in progress, which may be several merges
	stopped   bool          // the store is closing: only short merges may still start
	notBefore int           // minimum number of segments for the next try, after a merge failed

	wasted     atomic.Int64 // bytes that Gets read needlessly
	wasteLimit atomic.Int64 // value of wasted at which to consider a merge
}

// closeMerge is the maximum number of bytes that Close merges. Without it, many sessions
// that are too short for the background would accumulate segments.
const closeMerge = 64 << 20

var errDropped = errors.New("the store was dropped or closed during the merge")

// considerMerge starts merging if a merge is due. mu must be held.
func (s *Store) considerMerge() {
	m := &s.merging
	if m.running || m.stopped || s.checkWritable() != nil {
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

// dueMerge returns the index of the first segment to merge, if a merge is due. mu must be held.
func (s *Store) dueMerge() (from int, due bool) {
	// A larger merge would use too much disk while much of its input is dead data.
	return s.merging.next(s.segments.list, s.segments.size.Load()+s.reclaim.slack-2*s.reclaim.dead())
}

// next returns the index of the first segment to merge, if a merge is due. A merge that
// only speeds up Gets may not exceed maxBytes.
func (m *merging) next(list []*storedSegment, maxBytes int64) (from int, due bool) {
	if m.minCount < 0 || len(list) < m.notBefore {
		return 0, false
	}
	sizes := make([]int64, len(list))
	for i, g := range list {
		sizes[i] = g.UncompressedLen()
	}
	if from, due := dueSmall(sizes, m.smallLen, m.minCount); due {
		return from, true
	}
	for i, g := range list {
		sizes[i] = g.StoredLen()
	}
	from, cost := worthForGets(sizes)
	if cost == 0 {
		m.wasteLimit.Store(math.MaxInt64)
		return 0, false
	}
	m.wasteLimit.Store(cost)
	return from, sizeOf(list[from:]) <= maxBytes && m.wasted.Load() >= cost
}

// mergeAll merges until nothing is due.
func (s *Store) mergeAll(ctx context.Context, done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.merging
	for ctx.Err() == nil {
		if s.reclaimDue() && s.checkWritable() == nil {
			m.reclaims = true
			s.mu.Unlock()
			err := s.reclaimSpace(ctx)
			s.mu.Lock()
			m.bytes, m.memory, m.reclaims = 0, 0, false
			if err != nil && ctx.Err() == nil && !errors.Is(err, errDropped) {
				s.log.Warn("logstore: reclaiming space failed", "dir", s.dir, "err", err)
				s.reclaim.fail()
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
			m.notBefore = len(s.segments.list) + minMerge
			s.merging.wasted.Store(0)
			break
		}
		m.notBefore = 0
	}
	m.running = false
	m.cancel()
	close(done)
}

// nextMerge returns the next due merge, or nil. mu must be held; it is released while waiting.
func (s *Store) nextMerge(ctx context.Context) *mergeJob {
	s.waitSealed()
	if ctx.Err() != nil || s.checkWritable() != nil {
		return nil
	}
	from, due := s.dueMerge()
	if !due {
		return nil
	}
	return s.newMerge(ctx, from, len(s.segments.list), false)
}

// waitSealed waits for the end of a running seal, which writes after the last segment.
// mu must be held; it is released while waiting.
func (s *Store) waitSealed() {
	for s.sealing {
		sealed := s.sealDone
		s.mu.Unlock()
		<-sealed
		s.mu.Lock()
	}
}

// segmentsView returns a view without tables. mu must be held.
func (s *Store) segmentsView(segments []*storedSegment) *view {
	s.catalog.files.refs.Add(1)
	return &view{s: s, files: s.catalog.files, version: s.segments.acquire(), segments: segments}
}

// newMerge prepares a merge of segments. With lookAtAll, it also reads all other segments
// to find dead entries. It returns nil if the store is closing and the merge would take
// long. mu must be held.
func (s *Store) newMerge(ctx context.Context, from, to int, lookAtAll bool) *mergeJob {
	inputs := s.segments.list[from:to]
	bytes := sizeOf(inputs)
	if s.merging.stopped && bytes > closeMerge {
		return nil
	}
	if s.sealer.file != nil && slices.ContainsFunc(inputs, func(g *storedSegment) bool { return g.file == s.sealer.file }) {
		s.sealer.rotate.Store(true) // the next segment goes to another file
	}
	j := &mergeJob{s: s, ctx: ctx, listIndex: from, inputBytes: bytes, reclaims: lookAtAll}
	if lookAtAll {
		j.view, j.first, j.end, j.hasOldest = s.segmentsView(s.segments.list), from, to, true
	} else {
		j.view, j.end, j.hasOldest = s.segmentsView(inputs), len(inputs), from == 0
	}
	j.plan()
	s.merging.bytes, s.merging.memory = bytes, 2*j.limit+j.limit/2+2*segment.WriteSize
	return j
}

func sizeOf(segments []*storedSegment) (n int64) {
	for _, g := range segments {
		n += g.StoredLen()
	}
	return n
}

// stopMerging ends background merges before the store closes.
func (s *Store) stopMerging() {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.merging
	m.stopped = true
	if !m.running {
		return
	}
	if m.bytes > closeMerge || m.reclaims && s.segments.size.Load() > closeMerge {
		m.cancel()
	}
	done := m.done
	s.mu.Unlock()
	<-done
	s.mu.Lock()
}

// run merges the segments and commits the result. After an error, it removes its files.
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
		// If the manifest's outcome is unknown, it may name the new files.
		u := maybeApplied{}
		err = errors.Join(err, j.undo(!errors.As(err, &u)))
	}
	s := j.s
	s.mu.Lock()
	if err != nil && !s.sealing {
		s.sealer.rotate.Store(false) // the next merge may set it again
	}
	s.mu.Unlock()
	return errors.Join(err, j.view.close())
}

// checkSpace returns an error if the merge would leave too little disk space for appends.
// Reclaiming merges are exempt: they were chosen to fit into the free space.
func (j *mergeJob) checkSpace() error {
	teller, ok := j.s.fs.(vfs.SpaceReporter)
	if !ok || j.reclaims {
		return nil
	}
	free, err := teller.Free(j.s.dir)
	if need := j.inputBytes + j.inputBytes/8 + j.s.opts.Memory; err == nil && free < need {
		return fmt.Errorf("the merge temporarily needs %d bytes of disk, but only %d are free", need, free)
	}
	return err
}
