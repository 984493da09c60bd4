// Package plan computes what shuffles through a store in a bucket take: requests, dollars
// and seconds, by the documentation of S3.
package plan

import (
	"fmt"
	"math"
)

// Job is a shuffle: writers append data under many keys and flush once each, then
// readers read a part each.
type Job struct {
	Writers, Readers int
	Bytes            int64 // of all entries
}

// Work is how the store divides a job.
type Work struct {
	Segments    int64
	Passes      int64 // of each reader
	Gets        int64 // requests of each reader for what it reads
	Read        int64 // bytes that each reader reads
	Disk        int64 // bytes of temporary files that each reader writes; 0: none
	Catalog     int64 // bytes of memory of each reader for where things are
	Footers     int64 // bytes that each reader reads of that
	Commits     int64 // records of the log
	OpeningPuts int64 // of each writer and reader
	ListPage    int64 // objects of one listing
	Uploads     int   // of a writer at a time
	Readers     int   // requests of a reader at a time
}

// Plan is what a job takes.
type Plan struct {
	Segments, Passes   int64 // passes of each reader
	DiskBytes          int64 // of temporary files of each reader
	RangeBytes         int64 // read by one request, on average
	CatalogBytes       int64 // memory of each reader for where things are
	Upload, Commit     float64
	Read               float64 // seconds
	Requests           Requests
	RequestDollars     float64
	StorageDollarsADay float64
}

// Requests are how many requests of each kind were made.
type Requests struct{ Put, Get, List, Delete int64 }

// The list prices of S3 Standard in us-east-1, in dollars: of a request, and of a GB (10^9 bytes)
// for a month. Deleting is free.
const (
	s3Put          = 0.005 / 1000
	s3Get          = 0.0004 / 1000
	s3List         = 0.005 / 1000
	s3StorageMonth = 0.023
)

// dollars is what the requests cost.
func (r Requests) dollars() float64 {
	return float64(r.Put)*s3Put + float64(r.Get)*s3Get + float64(r.List)*s3List
}

func (r Requests) String() string {
	return fmt.Sprintf("%d PUT, %d GET, %d LIST, %d DELETE: $%.6f at S3's list prices", r.Put, r.Get, r.List, r.Delete, r.dollars())
}

// What S3 documents: rates per prefix, at which it answers 503 above, and what one
// connection and the first byte take.
const (
	s3PutRate       = 3500  // requests per second and prefix
	s3GetRate       = 5500  // requests per second and prefix
	s3Connection    = 85e6  // bytes per second of one connection
	s3FirstByte     = 0.15  // seconds
	prefixesOfStore = 256.0 // seg/00 to seg/ff
)

// Flushes returns what it takes that writers commit at the same moment, beside their uploads:
// by experiment, with ten objects of the log a second, and 40 to 100 ms for a request.
func Flushes(writers int64) (r Requests, seconds float64) {
	n, digits := float64(writers), math.Log10(float64(writers))
	r = Requests{Put: int64(n * (1 + 1.2*digits)), Get: int64(n * (1 + 2.8*digits)), List: int64(n * (1 + 0.8*digits))}
	return r, 0.4 + digits
}

// Plan computes what the work of a job takes.
func (w Work) Plan(j Job) Plan {
	writers, readers := int64(j.Writers), int64(j.Readers)
	p := Plan{Segments: w.Segments, Passes: w.Passes, DiskBytes: w.Disk, RangeBytes: w.Read / w.Gets, CatalogBytes: w.Catalog}
	commits, seconds := Flushes(writers)
	each := w.Commits / writers
	p.Requests = Requests{
		// STORE once more and a race at each opening, the log, the segments.
		Put:  w.Segments + each*commits.Put + (writers+readers)*w.OpeningPuts,
		Get:  w.Gets*readers + readers*(w.Commits+1) + writers + readers + each*commits.Get,
		List: each*commits.List + readers*(1+w.Commits/w.ListPage),
	}
	p.RequestDollars = p.Requests.dollars()
	p.StorageDollarsADay = float64(j.Bytes) / 1e9 * s3StorageMonth / 30

	segments, atOnce := float64(w.Segments), float64(w.Readers)
	perWriter := (j.Bytes + writers - 1) / writers
	p.Upload = max((float64(perWriter)/s3Connection+segments/float64(writers)*s3FirstByte)/float64(w.Uploads), segments/(s3PutRate*prefixesOfStore))
	p.Commit = float64(each) * seconds
	p.Read = max(
		float64(w.Read+w.Footers)/(atOnce*s3Connection)+float64(w.Gets)*s3FirstByte/atOnce,
		float64(w.Gets)*float64(readers)/(s3GetRate*prefixesOfStore))
	return p
}
