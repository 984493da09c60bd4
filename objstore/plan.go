package objstore

import (
	"fmt"
	"math"
)

// work describes how a store divides a job.
type work struct {
	Plan          // only Segments, Passes, DiskBytes and CatalogBytes
	gets    int64 // GET requests per reader for data
	read    int64 // bytes that each reader reads
	footers int64 // bytes of footers that each reader reads
	commits int64 // records of the log
	readers int   // concurrent requests of a reader
}

// Plan is the estimate of a job: requests, dollars, and seconds at the rates that S3 documents.
type Plan struct {
	Segments, Passes     int64   // Passes is per reader
	DiskBytes            int64   // temporary files of each reader
	RangeBytes           int64   // average bytes per read request
	CatalogBytes         int64   // memory of each reader for the index of segments
	Upload, Commit       float64 // seconds
	Read                 float64 // seconds
	Requests             Requests
	RequestDollars       float64
	StorageDollarsPerDay float64
}

// Requests counts requests by kind.
type Requests struct{ Put, Get, List, Delete int64 }

// List prices of S3 Standard in us-east-1, in dollars: per request, and per GB (10^9
// bytes) and month. Deleting is free.
const (
	s3Put          = 0.005 / 1000
	s3Get          = 0.0004 / 1000
	s3List         = 0.005 / 1000
	s3StorageMonth = 0.023
)

func (r Requests) dollars() float64 {
	return float64(r.Put)*s3Put + float64(r.Get)*s3Get + float64(r.List)*s3List
}

func (r Requests) String() string {
	return fmt.Sprintf("%d PUT, %d GET, %d LIST, %d DELETE: $%.6f at S3's list prices", r.Put, r.Get, r.List, r.Delete, r.dollars())
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

// planFlushes returns the requests and seconds, without uploads, if all writers commit at the same
// moment. The formula was fitted to measurements in which the log accepted ten objects a second and
// a request took 40 to 100 ms.
func planFlushes(writers int64) (r Requests, seconds float64) {
	n, digits := float64(writers), math.Log10(float64(writers))
	r = Requests{Put: int64(n * (1 + 1.2*digits)), Get: int64(n * (1 + 2.8*digits)), List: int64(n * (1 + 0.8*digits))}
	return r, 0.4 + digits
}

// estimate returns the plan of a job that is divided into w.
func (w *work) estimate(j Job) Plan {
	writers, readers := int64(j.Writers), int64(j.Readers)
	p := w.Plan
	p.RangeBytes = w.read / w.gets
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
	p.Upload = max((float64(perWriter)/s3Connection+segments/float64(writers)*s3FirstByte)/maxUploads, segments/(s3PutRate*prefixesOfStore))
	p.Commit = float64(commitsPerWriter) * seconds
	p.Read = max(
		float64(w.read+w.footers)/(requests*s3Connection)+float64(w.gets)*s3FirstByte/requests,
		float64(w.gets)*float64(readers)/(s3GetRate*prefixesOfStore))
	return p
}
