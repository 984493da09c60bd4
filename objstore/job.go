package objstore

import (
	"errors"

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

// Plan estimates a job: requests, dollars, and seconds at the rates that S3 documents.
type Plan = plan.Plan

// Plan estimates a job with the same code that turns the work of stores into
// requests. It refuses a job whose readers need more disk than Options.Disk, as they do.
func (j Job) Plan() (Plan, error) {
	o, err := j.Options.withDefaults()
	if err != nil {
		return Plan{}, err
	}
	if min(j.Writers, j.Readers) < 1 || min(j.Bytes, j.EntryBytes) < 1 {
		return Plan{}, errors.New("a job has a writer, a reader, a byte and a byte in each entry at least")
	}
	w := j.divide(o)
	if w.Disk > o.Disk {
		return Plan{}, tooMuchDisk(w.Disk, o.Disk, 0)
	}
	return w.Plan(plan.Job{Writers: j.Writers, Readers: j.Readers, Bytes: j.Bytes}), nil
}

// PlanPage returns a page of plans, the content of docs/cloud-plan.md.
func PlanPage() string {
	return plan.Page(func(j plan.Job, memory, disk int64) plan.Work {
		o, err := (&Options{Memory: memory, SegmentSize: memory, Disk: disk}).withDefaults()
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
		OpeningPuts: 1 + raceRounds*raceCreators, ListPage: listPage, Uploads: uploads,
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
	w.Footers = w.Segments * g.OffsetMemory()
	for w.Catalog = w.Segments * (g.Memory() + 200); w.Catalog > o.catalogMemory() && g.Bits > 0; {
		g.Layout = g.Coarser()
		w.Catalog = w.Segments * (g.Memory() + 200)
	}

	// What a reader in the middle reads.
	sc := &scanner{budget: budgetOf(scanBudget(o.scanMemory()))}
	w.Readers = atOnce(sc.budget)
	all := partOf(j.Readers/2, j.Readers)
	v := view{segments: []*stored{g}}
	if sh := v.share(all).times(w.Segments); o.onDisk(&sh, sc.budget) {
		w.Passes, w.Read, w.Disk = 1, sh.bytes, sh.piling(sc.budget).need
		own := float64(sh.bytes) / float64(w.Segments*each) // of each segment
		gets := func(n int64) int64 { return (int64(float64(n)*own) + sc.batch() - 1) / sc.batch() }
		w.Gets = writers * (perWriter/size*gets(size) + gets(perWriter%size))
		return w
	}
	share := max(sc.budget/w.Segments, 1)
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
			w.Gets = w.Passes * w.Segments
			return w
		}
		lo = iv.hi + 1
	}
}
