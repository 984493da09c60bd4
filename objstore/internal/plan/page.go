package plan

import (
	"fmt"
	"math"
	"strings"
)

// Page is a page of plans, as docs/cloud-plan.md has it. Work divides a job of entries of
// 100 bytes among machines with so much memory each.
func Page(work func(j Job, memory int64) Work) string {
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
				j := Job{Writers: n, Readers: n, Bytes: size}
				p := work(j, memory).Plan(j)
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
