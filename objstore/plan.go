package objstore

import (
	"fmt"
	"math"
	"strings"

	"github.com/go-partd/partd/internal/segment"
)

// Job is a shuffle: writers append data under many keys and flush once each, then
// readers read a part each.
type Job struct {
	Writers, Readers int
	Bytes            int64 // of all entries
	EntryBytes       int64 // of one
	Options          Options
}

// What S3 documents: rates per prefix, at which it answers 503 above, and what one
// connection and the first byte take.
const (
	s3PutRate       = 3500  // requests per second and prefix
	s3GetRate       = 5500  // requests per second and prefix
	s3Connection    = 85e6  // bytes per second of one connection
	s3FirstByte     = 0.15  // seconds
	commitsPerSec   = 10    // of one log: each waits for the answer to the one before
	prefixesOfStore = 256.0 // seg/00 to seg/ff
	tablesInMemory  = 10    // with what is encoded and uploaded, half of the memory
)

// Plan is what a job takes.
type Plan struct {
	Segments, Passes   int64 // passes of each reader
	RangeBytes         int64 // read by one request, on average
	CatalogBytes       int64 // memory of each reader for where things are
	Upload, Commit     float64
	Read               float64 // seconds
	Requests           Requests
	RequestDollars     float64
	StorageDollarsADay float64
}

// Plan computes what a job takes with the code that divides stores into requests.
func (j Job) Plan() (Plan, error) {
	o, err := j.Options.withDefaults()
	if err != nil {
		return Plan{}, err
	}
	s := &Store{opts: o}
	size := s.tableSize()
	perWriter := (j.Bytes + int64(j.Writers) - 1) / int64(j.Writers)
	var p Plan
	p.Segments = int64(j.Writers) * ((perWriter + size - 1) / size)
	each := j.Bytes / p.Segments

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
	for p.CatalogBytes = p.Segments * (g.Memory() + 200); p.CatalogBytes > o.catalogMemory() && g.Bits > 0; {
		g.Layout = g.Coarser()
		p.CatalogBytes = p.Segments * (g.Memory() + 200)
	}

	// The passes of a reader in the middle.
	budget := o.Memory / 2 / 4 * 3 / 2 // as scanMemory and scan divide it
	all := partOf(j.Readers/2, j.Readers)
	var read int64
	v := view{segments: []*stored{g}}
	share, extra := max(budget/p.Segments, 1), int64(0)
	for lo := all.lo; ; p.Passes++ {
		iv, n, tooLarge := v.next(lo, all.hi, share)
		read += n * p.Segments
		if tooLarge { // read once to count, and once for each part that fits in memory
			_, weight := v.weight(iv)
			again := (weight + share - 1) / share
			read += again * n * p.Segments
			extra += again
		}
		if iv.hi == all.hi {
			p.Passes++
			break
		}
		lo = iv.hi + 1
	}
	p.Passes += extra
	gets := p.Passes * p.Segments
	p.RangeBytes = read / gets
	logs := int64(j.Writers) * max(p.Segments/int64(j.Writers)/int64(s.maxPending()), 1)
	p.Requests = Requests{
		// STORE once more and a race at each opening, the log with as many numbers lost as
		// won, the segments. Each record is read back, be it won or lost.
		Put:  p.Segments + 2*logs + int64(j.Writers+j.Readers)*(1+raceRounds*raceCreators),
		Get:  gets*int64(j.Readers) + int64(j.Readers)*(logs+1) + int64(j.Writers+j.Readers) + 2*logs,
		List: int64(j.Writers)*2 + int64(j.Readers)*(1+logs/listPage),
	}
	p.RequestDollars = p.Requests.Dollars(S3Prices())
	p.StorageDollarsADay = float64(j.Bytes) / 1e9 * S3Prices().StorageMonth / 30

	n := float64(p.Segments)
	p.Upload = max((float64(perWriter)/s3Connection+n/float64(j.Writers)*s3FirstByte)/uploads, n/(s3PutRate*prefixesOfStore))
	p.Commit = float64(logs) / commitsPerSec
	footers := n * float64(g.Memory())
	p.Read = max(
		(float64(read)+footers)/(readers*s3Connection)+float64(gets)*s3FirstByte/readers,
		float64(gets)*float64(j.Readers)/(s3GetRate*prefixesOfStore))
	return p, nil
}

// PlanPage is a page of plans, as docs/cloud-plan.md has it.
func PlanPage() string {
	var b strings.Builder
	b.WriteString(`# What a store in a bucket takes

Computed by ` + "`partd-cloud plan`" + ` from the code that divides stores into requests; nothing here was measured. Entries are of 100 bytes, evenly spread over keys. Each
writer flushes at its end. Each reader reads its part once. Each opening costs 13 PUTs, of which 12 show whether the bucket lets two creators win, and each
commit a GET, which shows that it was this writer that won. Dollars are of S3 Standard in us-east-1 at list prices; traffic within a region is free, machines are
not in it. Seconds are bounds by what S3 documents: 3,500 PUT and 5,500 GET a second and prefix, of which a store has 256 once S3 has divided it (before
that it answers 503, and requests are tried again); 85 MB/s of a connection, of which a writer uses two and a reader eight; 0.15 s to the first byte. The log is taken
to accept ten commits a second.

| writers | readers | data | memory | segments | passes | GET of | catalog | upload s | commit s | read s | PUT | GET | requests $ | storage $ a day |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, size := range []int64{1e11, 1e12, 1e13} {
		for _, n := range []int{10, 100, 1000} {
			for _, memory := range []int64{1 << 30, 4 << 30} {
				j := Job{Writers: n, Readers: n, Bytes: size, EntryBytes: 100, Options: Options{Memory: memory, SegmentSize: memory / tablesInMemory}}
				p, err := j.Plan()
				if err != nil {
					panic(err) // the options above are valid
				}
				fmt.Fprintf(&b, "| %d | %d | %g TB | %d GiB | %d | %d | %s | %d MiB | %.0f | %.0f | %.0f | %d | %d | %.2f | %.2f |\n",
					n, n, float64(size)/1e12, memory>>30, p.Segments, p.Passes, kib(p.RangeBytes), p.CatalogBytes>>20,
					p.Upload, p.Commit, p.Read, p.Requests.Put, p.Requests.Get, p.RequestDollars, p.StorageDollarsADay)
			}
		}
	}
	b.WriteString(`
## Where it stops scaling

- *GETs are segments × passes of all readers*, so they grow with the square of the data while memory stays: passes with the data of a reader, segments with all of it.
  More memory makes both fewer, since segments may be a tenth of it. With 1,000 writers and readers a request reads little, and the first byte takes longer than the rest.
- *Ranges are no shorter than 16 KiB, and no more than 16,384 in a segment.* A reader that cannot hold one range of all segments, three sixteenths of its memory at a time,
  reads that range once to count and once for each part that it can hold: the data times over. From there on, more readers help less than more memory.
- *The catalog* is an eighth of the memory at most. Beyond that it knows half as many ranges of each segment, and what a reader reads of others' grows.
- *Every reader reads the whole log*, with the places in all segments: readers × segments.
- *One log* takes some ten commits a second, whoever writes. 1,000 writers that flush at the same time wait for minutes; and those who lose ask again, each
  with three requests. It is for flushes at the end of a task, not for every append.
- *Nothing is merged*, so many small flushes make many small segments, and each is a request of every pass.
`)
	return b.String()
}

func kib(n int64) string { return fmt.Sprintf("%.0f KiB", math.Ceil(float64(n)/1024)) }
