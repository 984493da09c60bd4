package objstore

import (
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/objstore/internal/plan"
)

// Job is a shuffle: writers append data under many keys and flush once each, then
// readers read a part each.
type Job struct {
	Writers, Readers int
	Bytes            int64 // of all entries
	EntryBytes       int64 // of one
	Options          Options
}

// Plan is what a job takes: requests, dollars, and seconds at the rates that S3 documents.
type Plan = plan.Plan

// Plan computes what a job takes with the code that divides stores into requests.
func (j Job) Plan() (Plan, error) {
	o, err := j.Options.withDefaults()
	if err != nil {
		return Plan{}, err
	}
	return j.divide(o).Plan(plan.Job{Writers: j.Writers, Readers: j.Readers, Bytes: j.Bytes}), nil
}

// PlanPage is a page of plans, as docs/cloud-plan.md has it.
func PlanPage() string {
	return plan.Page(func(j plan.Job, memory int64) plan.Work {
		o, err := (&Options{Memory: memory, SegmentSize: memory / tablesInMemory}).withDefaults()
		if err != nil {
			panic(err) // the options above are valid
		}
		return Job{Writers: j.Writers, Readers: j.Readers, Bytes: j.Bytes, EntryBytes: 100}.divide(o)
	})
}

// divide does what writers and readers of the job do.
func (j Job) divide(o Options) plan.Work {
	s := &Store{opts: o}
	size, writers := s.tableSize(), int64(j.Writers)
	perWriter := (j.Bytes + writers - 1) / writers
	w := plan.Work{
		Segments:    writers * ((perWriter + size - 1) / size),
		OpeningPuts: 1 + raceRounds*raceCreators, ListPage: listPage, Uploads: uploads, Readers: readers,
	}
	w.Commits = writers * max(w.Segments/writers/int64(s.maxPending()), 1)
	each := j.Bytes / w.Segments

	// All segments are alike, so one stands for all.
	bits := uint8(0)
	for n := each / o.hooks.rangeBytes; n > 1 && bits < maxBits; n >>= 1 {
		bits++
	}
	g := &stored{Layout: segment.Layout{Start: segment.HeaderLen, End: each, Bits: bits, Off: make([]uint32, 1<<bits+1)}}
	for i := range g.Off {
		g.Off[i] = uint32(each * int64(i) >> bits)
	}
	g.ledger.Pieces = each / j.EntryBytes
	for w.Catalog = w.Segments * (g.Memory() + 200); w.Catalog > o.catalogMemory() && g.Bits > 0; {
		g.Layout = g.Coarser()
		w.Catalog = w.Segments * (g.Memory() + 200)
	}
	w.Footers = w.Segments * g.Memory()

	// The passes of a reader in the middle.
	budget := o.Memory / 2 / 4 * 3 / 2 // as scanMemory and scan divide it
	all := partOf(j.Readers/2, j.Readers)
	v := view{segments: []*stored{g}}
	share := max(budget/w.Segments, 1)
	for lo := all.lo; ; {
		iv, n, tooLarge := v.next(lo, all.hi, share)
		w.Passes++
		w.Read += n * w.Segments
		if tooLarge { // read once to count, and once for each part that fits in memory
			_, weight := v.weight(iv)
			again := (weight + share - 1) / share
			w.Read += again * n * w.Segments
			w.Passes += again
		}
		if iv.hi == all.hi {
			return w
		}
		lo = iv.hi + 1
	}
}
