package objstore

import (
	"errors"

	"github.com/go-partd/partd/internal/engine/segment"
)

// Job is a shuffle: each writer appends data under many keys and flushes once, then each
// reader reads one part.
type Job struct {
	Writers, Readers int
	Bytes            int64 // total size of the entries
	EntryBytes       int64 // size of one entry
	Options          Options
}

// Plan estimates a job. It returns an error if a reader would need more disk than Options.Disk.
func (j Job) Plan() (Plan, error) {
	o, err := j.Options.withDefaults()
	if err != nil {
		return Plan{}, err
	}
	if min(j.Writers, j.Readers) < 1 || min(j.Bytes, j.EntryBytes) < 1 {
		return Plan{}, errors.New("a job needs at least one writer, one reader, one byte, and one byte per entry")
	}
	w := j.divide(o)
	if w.DiskBytes > o.Disk {
		return Plan{}, diskLimitError(w.DiskBytes, o.Disk, 0)
	}
	return w.estimate(j), nil
}

// divide computes how writers and readers divide the job.
func (j Job) divide(o Options) work {
	s := &Store{opts: o}
	size, writers := s.tableSize(), int64(j.Writers)
	perWriter := (j.Bytes + writers - 1) / writers
	w := work{Plan: Plan{Segments: writers * ((perWriter + size - 1) / size)}}
	w.commits = writers * max(w.Segments/writers/int64(s.maxPending()), 1)
	segmentSize := j.Bytes / w.Segments

	// All segments are alike, so one represents all.
	bits := uint8(0)
	for n := segmentSize / o.hooks.rangeBytes; n > 1 && bits < maxBits; n >>= 1 {
		bits++
	}
	g := &committedSegment{Layout: segment.Layout{Start: segment.HeaderLen, End: segmentSize, Bits: bits, Offsets: make([]uint32, 1<<bits+1)}}
	for i := range g.Offsets {
		g.Offsets[i] = uint32(segmentSize * int64(i) >> bits)
	}
	g.ledger.Pieces = segmentSize / j.EntryBytes
	w.footers = w.Segments * g.OffsetMemoryUsed()
	for w.CatalogBytes = w.Segments * (g.MemoryUsed() + 200); w.CatalogBytes > o.catalogMemory() && g.Bits > 0; {
		g.Layout = g.Coarser()
		w.CatalogBytes = w.Segments * (g.MemoryUsed() + 200)
	}

	// Compute what one reader of a part in the middle reads.
	sc := &scanner{budget: passBudget(scanBudget(o.scanMemory()))}
	w.readers = requestLimit(sc.budget)
	interval := partOf(j.Readers/2, j.Readers)
	v := view{segments: []*committedSegment{g}}
	if sh := v.share(interval).times(w.Segments); o.usesDisk(&sh, sc.budget) {
		w.Passes, w.read, w.DiskBytes = 1, sh.bytes, sh.pileLayout(sc.budget).diskBytes
		ownFraction := float64(sh.bytes) / float64(w.Segments*segmentSize) // fraction of each segment that one reader reads
		gets := func(n int64) int64 { return (int64(float64(n)*ownFraction) + sc.batchBytes() - 1) / sc.batchBytes() }
		w.gets = writers * (perWriter/size*gets(size) + gets(perWriter%size))
		return w
	}
	share := max(sc.budget/w.Segments, 1)
	for lo := interval.lo; ; {
		iv, n, tooLarge := v.nextInterval(lo, interval.hi, share)
		w.Passes++
		w.read += n * w.Segments
		if tooLarge { // a reader needs one pass to measure sizes, and one for each part that fits in memory
			_, weight := v.weight(iv)
			parts := (weight + share - 1) / share
			w.read += parts * n * w.Segments
			w.Passes += parts
		}
		if iv.hi == interval.hi {
			w.gets = w.Passes * w.Segments
			return w
		}
		lo = iv.hi + 1
	}
}
