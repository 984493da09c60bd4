package logstore

import (
	"time"

	"github.com/go-partd/partd/internal/engine/segment"
)

// reclaiming tracks the store's dead data. Store.mu guards it.
type reclaiming struct {
	slack          int64 // dead bytes that are always tolerated, however small the store is
	isSlackReduced bool  // Reclaim has reduced slack
	disabled       bool  // never reclaim; for tests

	suspect     suspicion   // possibly dead bytes in the store: the sum of parts
	parts       []suspicion // possibly dead bytes in each part of the hash space
	deadShare   float64     // expected fraction of the possibly dead bytes that are dead
	mustMeasure bool        // measure as soon as no reader uses merged segments
	freed       int64       // bytes freed since the store was opened
	failures    int         // consecutive failures of reclaimer.run
	nextTime    time.Time   // earliest time of a retry, or of a measurement that will probably find few dead bytes
	hasTimer    bool        // a timer is set for nextTime

	waste   map[segmentLocation]waste // known dead data of each segment
	wasted  int64                     // sum of waste
	garbage int64                     // bytes of blob files that no segment refers to

	// Bytes by part of the hash space.
	weights []int64 // bytes in segments; nil after segments have changed
	blobs   []int64 // bytes in large values
}

// suspicion estimates how many bytes became dead since the last measurement: the expected number
// and the maximum.
type suspicion struct{ likely, possible float64 }

// waste is the measured dead data of one segment.
type waste struct {
	bytes int64 // bytes that merging only this segment would free
	marks int64 // bytes of delete markers that are needed only as long as older segments contain their keys
	blobs int64 // bytes of large values that only dead entries refer to
}

func (w waste) sum() int64 { return w.bytes + w.marks + w.blobs }

// maxDead returns how many bytes may stay dead in a store of the given size: three quarters of the
// live bytes, plus slack. The formula follows from size = live + dead. If more bytes are dead,
// rewriting all live bytes frees more than three quarters of their number. So a merge writes at
// most about 4/3 bytes for each byte that it frees.
func (r *reclaiming) maxDead(size int64) int64 { return (3*size + 4*r.slack) / 7 }

// dead returns the bytes that are known to be dead. mu must be held.
func (r *reclaiming) dead() int64 { return r.wasted + r.garbage }

// due reports whether to measure the dead data in a store of size bytes now. If not, it returns how
// long to wait, or 0 if no measurement is needed. hasOldReaders means that readers may still use
// segments that were merged.
func (r *reclaiming) due(size int64, hasOldReaders bool) (due bool, wait time.Duration) {
	if r.disabled || r.mustMeasure && hasOldReaders {
		return false, 0
	}
	tooMuch := func(more float64) bool {
		return r.mustMeasure || more > float64(r.slack/8) && float64(r.dead())+more > float64(r.maxDead(size))
	}
	if r.failures == 0 && tooMuch(r.suspect.likely) {
		return true, 0
	}
	if !tooMuch(r.suspect.possible) {
		return false, 0
	}
	wait = time.Until(r.nextTime)
	return wait <= 0, wait
}

// recordFailure delays the next attempt to reclaim space after a failure. mu must be held.
func (r *reclaiming) recordFailure() {
	r.mustMeasure, r.failures = true, min(r.failures+1, 6)
	r.postpone(time.Second << r.failures)
}

func (r *reclaiming) postpone(minWait time.Duration) {
	if next := time.Now().Add(minWait); next.After(r.nextTime) {
		r.nextTime = next
	}
}

// noteBatch counts the bytes that the deletes and replacements in a batch may make dead. It reports
// whether the batch contains any. t is the batch's table; list contains the store's segments. mu
// must be held.
func (r *reclaiming) noteBatch(b *batch, t *memtable, list []*storedSegment) (resets bool) {
	if b.ledger.Marks == 0 && b.maxBlobNo == 0 || r.blobs == nil {
		return false
	}
	for i, part := range b.parts {
		switch e := b.entryAt(i); segment.Kind(e[0] & 3) {
		case segment.KindBlob:
			if ref, err := segment.ParseBlobRef(e[len(e)-segment.BlobRefLen:]); err == nil {
				r.blobs[part] += ref.StoredLen()
			}
		case segment.KindSet, segment.KindDelete:
			if r.weights == nil {
				r.weights = bytesByPart(list, t.bits)
			}
			r.parts[part].observe(float64(r.weights[part]+r.blobs[part]+int64(t.parts[part].size)), r)
		}
	}
	return b.ledger.Marks > 0
}

// observe updates p and r.suspect after a delete or replacement in p's part of the hash space. The
// part has n bytes, so at most n bytes can be dead.
func (p *suspicion) observe(n float64, r *reclaiming) {
	before := *p
	*p = suspicion{min(p.likely+n*r.deadShare, n), n}
	r.suspect.likely += p.likely - before.likely
	r.suspect.possible += p.possible - before.possible
}

// bytesByPart returns the bytes of the segments in each of 2^bits parts of the hash space.
func bytesByPart(list []*storedSegment, bits uint8) []int64 {
	weights := make([]int64, 1<<bits)
	for _, seg := range list {
		for p := range weights {
			weights[p] += seg.rangesLen(segment.HashBounds(p, p+1, bits)) >> (max(bits, seg.Bits) - seg.Bits)
		}
		for i := range seg.Hot {
			weights[segment.RangeIndex(seg.Hot[i].Hash, bits)] += int64(seg.Hot[i].Len)
		}
	}
	return weights
}

type fileSegments struct {
	first, end int   // the file's segments are list[first:end]
	gain       int64 // bytes that a merge of these segments frees
	live       int64 // bytes that the merge writes
}

// groupByFile sums up the waste of segments by file. The segments in a file must be adjacent.
func (r *reclaiming) groupByFile(segments []*storedSegment) []fileSegments {
	var list []fileSegments
	for i, seg := range segments {
		if i == 0 || segments[i-1].file != seg.file {
			list = append(list, fileSegments{first: i})
		}
		f, w := &list[len(list)-1], r.waste[seg.location()]
		f.end = i + 1
		f.gain += w.bytes + w.blobs
		f.live += seg.StoredLen() - w.bytes
	}
	return list
}

// start resets the state when the store is opened or dropped. Tables have 2^partBits parts. If the
// store contains deletes or replacements from before Open, any of its data may be dead. mu must be
// held.
func (r *reclaiming) start(ss *segmentList, files *fileSet, partBits uint8) {
	*r = reclaiming{
		slack: r.slack, freed: r.freed, isSlackReduced: r.isSlackReduced, disabled: r.disabled,
		deadShare: 1, waste: map[segmentLocation]waste{},
		blobs: make([]int64, 1<<partBits), parts: make([]suspicion, 1<<partBits),
	}
	var blobs int64
	for _, f := range files.files() {
		if f.Kind == segment.BlobFile {
			blobs += f.end - segment.HeaderLen
		}
	}
	for i := range r.blobs {
		r.blobs[i] = blobs / int64(len(r.blobs))
	}
	ss.size.Store(sizeOf(ss.list) + blobs)
	for _, seg := range ss.list {
		if seg.ledger.Marks > 0 {
			r.suspect.possible = float64(ss.size.Load())
		}
	}
}
