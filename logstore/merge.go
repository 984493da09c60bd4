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

// merging is the state of the one goroutine that merges segments, while there
// is work for it. Store.mu guards it.
type merging struct {
	minCount int   // so many small segments are merged; negative: never
	full     int64 // length from which on a segment is not small
	maxLen   int64 // about the most that a merged segment holds

	running   bool
	cancel    context.CancelFunc
	done      chan struct{} // closed when the goroutine ends
	bytes     int64         // of the segments that are being merged
	memory    int64         // that the merge takes
	reclaims  bool          // space is being given back, by several merges
	stopped   bool          // the store is being closed: only what takes a moment is still done
	notBefore int           // so many segments there must be, after a merge failed

	wasted     atomic.Int64 // bytes that Gets read in vain
	wasteLimit atomic.Int64 // from which on it is to be looked whether to merge
}

// closeMerge is how many bytes Close still merges. Otherwise many sessions too
// short for the background would leave ever more segments.
const closeMerge = 64 << 20

var errDropped = errors.New("the store was dropped or closed meanwhile")

// considerMerge begins to merge segments if that is due. mu is held.
func (s *Store) considerMerge() {
	m := &s.merging
	if m.running || m.stopped || s.writable() != nil {
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

// dueMerge returns from where on segments are to be merged, if they are. mu is held.
func (s *Store) dueMerge() (from int, due bool) {
	// With more, it would take too much of the disk while there is so much that is dead.
	return s.merging.due(s.segments.list, s.segments.size.Load()+s.reclaim.slack-2*s.reclaim.dead())
}

// due returns from where on segments are to be merged, if they are. For Gets, no
// more than a number of bytes is.
func (m *merging) due(list []*storedSegment, maxBytes int64) (from int, due bool) {
	if m.minCount < 0 || len(list) < m.notBefore {
		return 0, false
	}
	sizes := make([]int64, len(list))
	for i, g := range list {
		sizes[i] = g.Unpacked()
	}
	if from, due := dueSmall(sizes, m.full, m.minCount); due {
		return from, true
	}
	for i, g := range list {
		sizes[i] = g.Length()
	}
	from, cost := worthForGets(sizes)
	if cost == 0 {
		m.wasteLimit.Store(math.MaxInt64)
		return 0, false
	}
	m.wasteLimit.Store(cost)
	return from, sizeOf(list[from:]) <= maxBytes && m.wasted.Load() >= cost
}

// mergeAll merges as long as there is something due.
func (s *Store) mergeAll(ctx context.Context, done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.merging
	for ctx.Err() == nil {
		if s.reclaimDue() && s.writable() == nil {
			m.reclaims = true
			s.mu.Unlock()
			err := s.reclaimSpace(ctx)
			s.mu.Lock()
			m.bytes, m.memory, m.reclaims = 0, 0, false
			if err != nil && ctx.Err() == nil && !errors.Is(err, errDropped) {
				s.log.Warn("logstore: space could not be given back", "dir", s.dir, "err", err)
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
			s.log.Warn("logstore: segments could not be merged; they stay as they are", "dir", s.dir, "err", err)
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

// nextMerge returns what is to be merged. mu is held, and let go of meanwhile.
func (s *Store) nextMerge(ctx context.Context) *mergeJob {
	s.waitSealed()
	if ctx.Err() != nil || s.writable() != nil {
		return nil
	}
	from, due := s.dueMerge()
	if !due {
		return nil
	}
	return s.newMerge(ctx, from, len(s.segments.list), false)
}

// waitSealed waits for who may be writing behind the last segment. mu is held,
// and let go of meanwhile.
func (s *Store) waitSealed() {
	for s.sealing {
		sealed := s.sealed
		s.mu.Unlock()
		<-sealed
		s.mu.Lock()
	}
}

// segmentsView returns a view of segments alone. mu is held.
func (s *Store) segmentsView(segments []*storedSegment) *view {
	s.catalog.files.refs.Add(1)
	return &view{s: s, files: s.catalog.files, version: s.segments.hold(), segments: segments}
}

// newMerge prepares a merge of segments, which looks at all others to tell what
// is dead if asked. It returns nil where the store is being closed, and it would
// take long. mu is held.
func (s *Store) newMerge(ctx context.Context, from, to int, lookAtAll bool) *mergeJob {
	run := s.segments.list[from:to]
	bytes := sizeOf(run)
	if s.merging.stopped && bytes > closeMerge {
		return nil
	}
	if s.sealer.file != nil && slices.ContainsFunc(run, func(g *storedSegment) bool { return g.file == s.sealer.file }) {
		s.sealer.rotate.Store(true) // the next segment goes to another file
	}
	j := &mergeJob{s: s, ctx: ctx, from: from, inputBytes: bytes, reclaims: lookAtAll}
	if lookAtAll {
		j.v, j.first, j.end, j.pastKnown = s.segmentsView(s.segments.list), from, to, true
	} else {
		j.v, j.end, j.pastKnown = s.segmentsView(run), len(run), from == 0
	}
	j.plan()
	s.merging.bytes, s.merging.memory = bytes, 2*j.limit+j.limit/2+2*segment.WriteLen
	return j
}

func sizeOf(segments []*storedSegment) (n int64) {
	for _, g := range segments {
		n += g.Length()
	}
	return n
}

// stopMerging ends the background merge before the store is closed.
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

// run merges and makes the result part of the store, or undoes what it did.
func (j *mergeJob) run() error {
	err := j.checkSpace()
	if err == nil {
		err = j.write()
	}
	if err == errSplitBlobs {
		err = j.undo(true)
		if err == nil {
			j.exact = true
			err = j.write()
		}
	}
	if err == nil {
		err = j.commit()
	}
	if err != nil {
		// The manifest may name the new files, if nobody knows its outcome.
		u := maybeApplied{}
		err = errors.Join(err, j.undo(!errors.As(err, &u)))
	}
	s := j.s
	s.mu.Lock()
	if err != nil && !s.sealing {
		s.sealer.rotate.Store(false) // perhaps for the next merge
	}
	s.mu.Unlock()
	return errors.Join(err, j.v.close())
}

// checkSpace keeps a merge from taking the last room of a disk, which appends
// need. One that gives room back was chosen for what there is.
func (j *mergeJob) checkSpace() error {
	t, ok := j.s.fs.(vfs.SpaceTeller)
	if !ok || j.reclaims {
		return nil
	}
	free, err := t.Free(j.s.dir)
	if need := j.inputBytes + j.inputBytes/8 + j.s.opts.Memory; err == nil && free < need {
		return fmt.Errorf("that temporarily needs %d bytes of the disk, but %d are free", need, free)
	}
	return err
}
