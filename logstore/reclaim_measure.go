package logstore

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/engine/segment"
)

// measurement counts dead data and the large values that entries refer to.
type measurement struct {
	j          *mergeJob // reads the entries; its method run is never called
	waste      []waste
	hasBlobs   bool             // the store has large values
	referenced map[uint32]int64 // bytes that entries refer to, by blob file
	blobs      []int64          // bytes of large values, by part of the hash space
}

// measureInterval measures the entries with hashes from lo to hi. It splits the interval if its
// deletes and replacements need too much memory.
func (m *measurement) measureInterval(lo, hi uint64) error {
	j := m.j
	limit := j.limit / 2
	if lo == hi {
		limit = math.MaxInt64
	}
	err := j.findResets(lo, hi, limit)
	if err == errRangeTooLarge {
		mid := lo + (hi-lo)/2
		if err := m.measureInterval(lo, mid); err != nil {
			return err
		}
		return m.measureInterval(mid+1, hi)
	}
	if err != nil || len(j.resets) == 0 && !m.hasBlobs {
		return err
	}
	for i := range m.waste {
		if err := j.eachEntryIn(i, i+1, lo, hi, func(e *segment.Entry) error { return m.countEntry(i, e) }); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurement) countEntry(i int, e *segment.Entry) error {
	var large int64
	if e.Kind == segment.KindBlob {
		ref, err := segment.ParseBlobRef(e.Value)
		if err != nil {
			return err
		}
		large = ref.StoredLen()
		m.referenced[ref.File] += large
		m.blobs[segment.RangeIndex(m.j.format.HashBytes(e.Key), m.j.tables.bits)] += large
	}
	r := m.j.resets[string(e.Key)]
	if r == nil {
		return nil
	}
	if r.firstSegment == 0 {
		r.firstSegment = i + 1
	}
	if !m.j.isDead(e) {
		return nil
	}
	w := &m.waste[i]
	if e.Kind == segment.KindDelete && r.passedCount == r.count && r.firstSegment != i+1 {
		w.marks += int64(len(e.Raw))
		return nil
	}
	w.bytes += int64(len(e.Raw))
	w.blobs += large
	return nil
}

// measureWaste reads all segments and records the dead bytes of each. It counts the unreferenced
// bytes of oldFiles as garbage. For each blob file, it returns the number of bytes that entries,
// dead or live, refer to. likely is the expected number of dead bytes.
func (rc *reclaimer) measureWaste(ctx context.Context, oldFiles []*dataFile, likely float64) (map[uint32]int64, error) {
	rc.locks.mu.Lock()
	if err := rc.checkWritable(); err != nil {
		rc.locks.mu.Unlock()
		return nil, err
	}
	start := time.Now()
	v := rc.views.viewOfSegments(rc.segments.list)
	j := &mergeJob{
		merging: rc.merging, ctx: ctx,
		view: v, end: len(v.segments), hasOldest: true, inputBytes: sizeOf(v.segments),
	}
	j.plan()
	rc.merging.bytes, rc.merging.memory = j.inputBytes, j.limit
	scale := make([]float64, len(v.segments))
	for i, seg := range v.segments {
		scale[i] = float64(seg.End-seg.Start) / float64(seg.UncompressedLen())
	}
	rc.locks.mu.Unlock()

	m := &measurement{
		j: j, waste: make([]waste, len(v.segments)),
		referenced: map[uint32]int64{}, blobs: make([]int64, 1<<rc.tables.bits),
	}
	m.hasBlobs = slices.ContainsFunc(v.files.files(), func(f *dataFile) bool { return f.Kind == segment.BlobFile })
	splitBits := bits.Len64(uint64(j.inputBytes / (16 * j.limit)))
	var err error
	for i := 0; i < 1<<splitBits && err == nil; i++ {
		err = m.measureInterval(segment.HashBounds(i, i+1, uint8(splitBits)))
	}
	rc.locks.mu.Lock()
	defer rc.locks.mu.Unlock()
	rc.merging.bytes, rc.merging.memory = 0, 0
	err = cmp.Or(err, v.release())
	if err == nil && ctx.Err() != nil {
		err = errDropped // Drop or Close canceled ctx, possibly before the view was created
	}
	if err != nil {
		return nil, err
	}
	r := rc.reclaim
	oldDead := r.dead()
	r.waste, r.wasted, r.garbage = map[segmentLocation]waste{}, 0, 0
	for i, seg := range v.segments {
		w := m.waste[i]
		w.bytes, w.marks = int64(float64(w.bytes)*scale[i]), int64(float64(w.marks)*scale[i])
		r.waste[seg.location()] = w
		r.wasted += w.sum()
	}
	total := sizeOf(rc.segments.list)
	for _, f := range rc.catalog.files.files() {
		if f.Kind == segment.BlobFile {
			total += f.onDisk()
		}
	}
	rc.segments.size.Store(total)
	for _, f := range oldFiles {
		r.garbage += max(f.onDisk()-m.referenced[f.Number], 0)
	}
	if likely > float64(rc.reclaim.slack/8) {
		r.deadShare *= min(max(2*float64(r.dead()-oldDead)/likely, 1.0/8), 8)
		r.deadShare = min(max(r.deadShare, 1.0/(1<<20)), 1)
	}
	r.blobs, r.mustMeasure = m.blobs, false
	r.postpone(max(32*time.Since(start), 10*time.Second)) // spend only about 3 % of the time on measurements
	return m.referenced, nil
}
