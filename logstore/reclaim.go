package logstore

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// Deleted and replaced values lie in segments until a merge leaves them out.
// When that is worth it is found in two steps. A reset says which part of the
// hashes its key is in: so many bytes may have become dead, which costs nothing
// to know. Mostly a share of them has. Once that could be too much, the segments
// are read, and what is really dead in each is known. What a share was says
// nothing of keys of another kind: now and then, they are also read where only
// all of those bytes would be too much. The segments with the most that is dead
// are rewritten, a few files at a time, so that the room that it takes is bounded.

// reclaiming is what is known of dead data. Store.mu guards it.
type reclaiming struct {
	slack    int64 // how much dead data is never worth looking at
	squeezed bool  // Reclaim made that less
	off      bool  // space is never given back, in tests

	suspect suspicion
	parts   []suspicion // by part of the hashes
	share   float64     // how much of what a reset can have made dead mostly is
	force   bool        // to be looked at again, once no reader has old segments
	failed  int         // how often, one after the other
	next    time.Time   // when that is tried again, and looked where little is likely
	waiting bool        // for next

	waste   map[segmentAt]waste
	wasted  int64 // the sum of waste
	garbage int64 // bytes of blob files that no segment refers to

	// Bytes by the part of the hashes that they belong to.
	weights []int64 // of segments; nil where they changed since
	blobs   []int64 // of large values
}

// suspicion is how many bytes the resets since the last look have made dead.
type suspicion struct{ likely, possible float64 }

// segmentAt tells one segment from others: what is known of it in memory may be
// replaced, where it is does not change.
type segmentAt struct {
	file  *dataFile
	start int64
}

func (g *storedSegment) at() segmentAt { return segmentAt{g.file, g.Start} }

type waste struct {
	bytes int64 // that a merge of the segment alone leaves out
	marks int64 // of deletes that older segments keep alive
	blobs int64 // of large values that only dead entries refer to
}

func (w waste) sum() int64 { return w.bytes + w.marks + w.blobs }

// maxDead is how much of so many bytes may be dead: three quarters of what is
// live, and the slack. So a byte that is freed costs about 4/3 bytes of writing
// at most.
func (r *reclaiming) maxDead(of int64) int64 { return (3*of + 4*r.slack) / 7 }

// dead is how much is known to be dead. mu is held.
func (r *reclaiming) dead() int64 { return r.wasted + r.garbage }

// reclaimDue reports whether it is to be looked how much is dead. If it will be
// after a while, that is seen to. mu is held.
func (s *Store) reclaimDue() bool {
	due, wait := s.reclaim.due(s.segments.size.Load(), s.segments.old > 0)
	if wait > 0 && !s.reclaim.waiting {
		s.reclaim.waiting = true
		time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reclaim.waiting = false
			s.considerMerge()
		})
	}
	return due
}

// due reports whether it is to be looked how much is dead of a store of a size,
// of which somebody may read earlier versions. Where it will be, it returns when.
func (r *reclaiming) due(size int64, oldRead bool) (due bool, wait time.Duration) {
	if r.off || r.force && oldRead {
		return false, 0
	}
	tooMuch := func(more float64) bool {
		return r.force || more > float64(r.slack/8) && float64(r.dead())+more > float64(r.maxDead(size))
	}
	if r.failed == 0 && tooMuch(r.suspect.likely) {
		return true, 0
	}
	if !tooMuch(r.suspect.possible) {
		return false, 0
	}
	wait = time.Until(r.next)
	return wait <= 0, wait
}

// fail puts the next try off. mu is held.
func (r *reclaiming) fail() {
	r.force, r.failed = true, min(r.failed+1, 6)
	r.rest(time.Second << r.failed)
}

func (r *reclaiming) rest(minWait time.Duration) {
	if next := time.Now().Add(minWait); next.After(r.next) {
		r.next = next
	}
}

// startReclaiming notes what a store has when it is opened. Of resets from
// before, nothing is known.
func (s *Store) startReclaiming() {
	r := &s.reclaim
	*r = reclaiming{slack: r.slack, squeezed: r.squeezed, off: r.off, share: 1, waste: map[segmentAt]waste{}, blobs: make([]int64, 1<<s.tables.bits), parts: make([]suspicion, 1<<s.tables.bits)}
	var blobs int64
	for _, f := range s.catalog.files.files() {
		if f.Kind == segment.BlobFile {
			blobs += f.end - segment.HeaderLen
		}
	}
	for i := range r.blobs {
		r.blobs[i] = blobs / int64(len(r.blobs))
	}
	s.segments.size.Store(sizeOf(s.segments.list) + blobs)
	for _, g := range s.segments.list {
		if g.ledger.Marks > 0 {
			r.suspect.possible = float64(s.segments.size.Load())
		}
	}
}

// noteBatch counts what the resets of a batch, which goes to a table, can have
// made dead. It reports whether there are any. mu is held.
func (r *reclaiming) noteBatch(b *batch, t *table, list []*storedSegment) (resets bool) {
	if b.ledger.Marks == 0 && b.maxBlobNo == 0 || r.blobs == nil {
		return false
	}
	for i, part := range b.part {
		switch e := b.entryAt(i); segment.Kind(e[0] & 3) {
		case segment.KindBlob:
			if ref, err := segment.ParseBlobRef(e[len(e)-segment.BlobRefLen:]); err == nil {
				r.blobs[part] += ref.Stored()
			}
		case segment.KindSet, segment.KindDelete:
			if r.weights == nil {
				r.weights = weigh(list, t.bits)
			}
			r.parts[part].note(float64(r.weights[part]+r.blobs[part]+int64(t.parts[part].size)), r)
		}
	}
	return b.ledger.Marks > 0
}

// note counts a reset in a part that has n bytes, of which no more can be dead.
func (p *suspicion) note(n float64, r *reclaiming) {
	before := *p
	*p = suspicion{min(p.likely+n*r.share, n), n}
	r.suspect.likely += p.likely - before.likely
	r.suspect.possible += p.possible - before.possible
}

// weigh returns how many bytes segments hold of each of 2^bits partitions.
func weigh(list []*storedSegment, bits uint8) []int64 {
	weights := make([]int64, 1<<bits)
	for _, g := range list {
		for p := range weights {
			weights[p] += g.stored(segment.Bounds(p, p+1, bits)) >> (max(bits, g.Bits) - g.Bits)
		}
		for i := range g.Hot {
			weights[segment.Range(g.Hot[i].Hash, bits)] += int64(g.Hot[i].Len)
		}
	}
	return weights
}

// forgetWaste forgets what is known of segments that were merged into others.
// mu is held.
func (j *mergeJob) forgetWaste() {
	r := &j.s.reclaim
	for _, g := range j.inputs() {
		r.wasted -= r.waste[g.at()].sum()
		delete(r.waste, g.at())
	}
	for _, n := range j.freed {
		r.garbage += n
	}
	r.weights = nil
	j.s.segments.size.Add(sizeOf(j.out) - sizeOf(j.inputs()))
}

// reclaimSpace gives dead space back. No lock is held.
func (s *Store) reclaimSpace(ctx context.Context) error {
	old, err := s.oldBlobFiles(ctx)
	if err != nil {
		return err
	}
	s.life.RLock()
	s.mu.Lock()
	files, suspect := s.catalog.files, s.reclaim.suspect
	s.reclaim.suspect = suspicion{}
	clear(s.reclaim.parts)
	err = s.flushLocked(ctx)
	s.mu.Unlock()
	s.life.RUnlock()
	full := err
	if isFull(err) {
		old, err = nil, nil // what is in segments may still be given back
	}
	if err != nil {
		return err
	}
	present, err := s.measureWaste(ctx, old, suspect.likely)
	for err == nil {
		var j *mergeJob
		if j, err = s.nextReclaim(ctx); j == nil {
			break
		}
		if err = j.run(); err == nil {
			for f, n := range j.freed {
				present[f] -= n
			}
		}
	}
	if err == nil {
		err = s.sweepBlobs(ctx, files, old, present)
	}
	if err = cmp.Or(err, full); err == nil { // else the tables are looked at later
		s.mu.Lock()
		s.reclaim.failed = 0
		s.mu.Unlock()
	}
	return err
}

// Reclaim frees dead space now, even amounts that the store would otherwise leave: it is
// for callers who run out of space. It does nothing unless something was deleted or
// replaced since the last look, or since Open, looks at most every ten seconds, and leaves
// alone files that are less than half dead.
func (s *Store) Reclaim(ctx context.Context) {
	s.mu.Lock()
	r := &s.reclaim
	never := r.next.IsZero() // what merges left of large values may be from before
	if (never || r.suspect.possible > 0) && time.Now().After(r.next) {
		r.force, r.squeezed, r.slack = true, true, min(r.slack, s.segments.size.Load()/8)
		s.considerMerge()
	}
	running, done := s.merging.running, s.merging.done
	s.mu.Unlock()
	if running {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

type fileSegments struct {
	from, to   int
	gain, live int64
}

func (r *reclaiming) byFile(segments []*storedSegment) []fileSegments {
	var list []fileSegments
	for i, g := range segments {
		if i == 0 || segments[i-1].file != g.file {
			list = append(list, fileSegments{from: i})
		}
		u, w := &list[len(list)-1], r.waste[g.at()]
		u.to = i + 1
		u.gain += w.bytes + w.blobs
		u.live += g.Length() - w.bytes
	}
	return list
}

// nextReclaim returns the next merge of files, or nil if none is worth it. Files
// behind the best one join it as long as they cost less than they give, and all
// of what is written is a small part of the store. mu is taken.
func (s *Store) nextReclaim(ctx context.Context) (*mergeJob, error) {
	room := int64(math.MaxInt64)
	if t, ok := s.fs.(vfs.SpaceTeller); ok {
		free, err := t.Free(s.dir)
		if err != nil {
			return nil, err
		}
		room = free - free/8 - 1<<20
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waitSealed()
	if ctx.Err() != nil || s.writable() != nil {
		return nil, canceled.Err(ctx)
	}
	files := s.reclaim.byFile(s.segments.list)
	best, tooLarge := -1, int64(0)
	for i, u := range files {
		switch {
		case u.gain == 0:
		case u.live > room:
			tooLarge = u.live
		case best < 0 || float64(u.gain)*float64(files[best].live+1) > float64(files[best].gain)*float64(u.live+1):
			best = i
		}
	}
	must := s.reclaim.wasted > s.reclaim.maxDead(s.segments.size.Load()-s.reclaim.garbage)
	if best < 0 && must && tooLarge > 0 {
		return nil, fmt.Errorf("giving space back temporarily needs %d bytes of the disk, but %d are free", tooLarge, room)
	}
	if best < 0 || !must && files[best].gain < files[best].live {
		return nil, nil
	}
	live := files[best].live
	maxLive := min(room, max(s.reclaim.slack, (s.segments.size.Load()-s.reclaim.dead())/8))
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
	return s.newMerge(ctx, files[best].from, files[last].to, true), nil
}
