package objstore

import (
	"errors"
	"math"

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

// divide computes the segments, passes and requests into which writers and readers divide the job.
func (j Job) divide(o Options) work {
	size, writers := o.tableSize(), int64(j.Writers)
	perWriter := (j.Bytes + writers - 1) / writers
	w := work{Plan: Plan{Segments: writers * ((perWriter + size - 1) / size)}}
	w.commits = writers * max(w.Segments/writers/int64(o.maxPending()), 1)
	segmentSize := j.Bytes / w.Segments

	// All segments are alike, so a single one stands for all of them.
	bits := uint8(0)
	for n := segmentSize / o.hooks.rangeBytes; n > 1 && bits < maxBits; n >>= 1 {
		bits++
	}
	g := &committedSegment{Layout: segment.Layout{
		Start: segment.HeaderLen, End: segmentSize, Bits: bits, Offsets: make([]uint32, 1<<bits+1),
	}}
	for i := range g.Offsets {
		g.Offsets[i] = uint32(segmentSize * int64(i) >> bits)
	}
	g.ledger.Pieces = segmentSize / j.EntryBytes
	w.footers = w.Segments * g.OffsetMemoryUsed()
	for w.CatalogBytes = w.Segments * (g.MemoryUsed() + 200); w.CatalogBytes > o.catalogMemory() && g.Bits > 0; {
		g.Layout = g.Coarser()
		w.CatalogBytes = w.Segments * (g.MemoryUsed() + 200)
	}

	// Compute what a reader with a part in the middle reads.
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

// work describes how a store divides a job.
type work struct {
	Plan          // only Segments, Passes, DiskBytes and CatalogBytes
	gets    int64 // GET requests per reader for data
	read    int64 // bytes that each reader reads
	footers int64 // bytes of footers that each reader reads
	commits int64 // records in the log
	readers int   // concurrent requests of a reader
}

// Plan is the estimate for a job: requests, dollars, and seconds at the rates that S3 documents.
type Plan struct {
	Segments, Passes     int64   // Passes is per reader
	DiskBytes            int64   // size of the temporary files of each reader
	CatalogBytes         int64   // memory that each reader needs for the index of segments
	Upload, Commit       float64 // seconds
	Read                 float64 // seconds
	Requests             Requests
	RequestDollars       float64
	StorageDollarsPerDay float64
}

// openingPuts is the number of PUT requests for opening a store once.
const openingPuts = 1 + raceRounds*raceCreators

// Limits that S3 documents. Above the request rates, it answers 503.
const (
	s3PutRate       = 3500  // requests per second and prefix
	s3GetRate       = 5500  // requests per second and prefix
	s3Connection    = 85e6  // bytes per second of one connection
	s3FirstByte     = 0.15  // seconds
	prefixesOfStore = 256.0 // seg/00 to seg/ff
)

// planFlushes estimates the requests and seconds of the commits, without uploads, if all writers commit
// at the same time. The formula was fitted to measurements in which the log accepted ten objects a second
// and a request took 40 to 100 ms.
func planFlushes(writers int64) (r Requests, seconds float64) {
	n, digits := float64(writers), math.Log10(float64(writers))
	r = Requests{Put: int64(n * (1 + 1.2*digits)), Get: int64(n * (1 + 2.8*digits)), List: int64(n * (1 + 0.8*digits))}
	return r, 0.4 + digits
}

// estimate returns the plan for a job that is divided as w describes.
func (w *work) estimate(j Job) Plan {
	writers, readers := int64(j.Writers), int64(j.Readers)
	p := w.Plan
	commits, seconds := planFlushes(writers)
	commitsPerWriter := w.commits / writers
	p.Requests = Requests{
		// Opening a store needs a second PUT of STORE, and the PUTs that test for races.
		Put:  w.Segments + commitsPerWriter*commits.Put + (writers+readers)*openingPuts,
		Get:  w.gets*readers + readers*(w.commits+1) + writers + readers + commitsPerWriter*commits.Get,
		List: commitsPerWriter*commits.List + readers*(1+w.commits/listPage),
	}
	p.RequestDollars = p.Requests.dollars()
	p.StorageDollarsPerDay = float64(j.Bytes) / 1e9 * s3StorageMonth / 30

	segments, requests := float64(w.Segments), float64(w.readers)
	perWriter := (j.Bytes + writers - 1) / writers
	uploadOfWriter := (float64(perWriter)/s3Connection + segments/float64(writers)*s3FirstByte) / maxUploads
	p.Upload = max(uploadOfWriter, segments/(s3PutRate*prefixesOfStore))
	p.Commit = float64(commitsPerWriter) * seconds
	p.Read = max(
		float64(w.read+w.footers)/(requests*s3Connection)+float64(w.gets)*s3FirstByte/requests,
		float64(w.gets)*float64(readers)/(s3GetRate*prefixesOfStore))
	return p
}
