package plan

import (
	"fmt"
	"math"
	"strings"
)

// Page is a page of plans, as docs/cloud-plan.md has it. Work divides a job of entries of
// 100 bytes among machines with so much memory and disk each.
func Page(work func(j Job, memory, disk int64) Work) string {
	var b strings.Builder
	b.WriteString(`# What a store in a bucket takes

Computed by ` + "`partd-cloud plan`" + ` from the code that divides stores into requests. Entries have 100 bytes and are spread evenly over
keys. Each writer flushes at its end. Each reader reads its part once, with the option ` + "`disk`" + ` unless the column says otherwise, and segments are as large as
memory allows (` + "`segment`" + `). Each opening costs 13 PUTs, 12 of which test whether the bucket lets two creators win. Each
commit costs a GET, which shows that this writer won. Dollars are list prices of S3 Standard in us-east-1; traffic within a region is free, machines are not
included. Seconds are bounds from S3's documentation: 3,500 PUT and 5,500 GET a second and prefix, of which a store has 256 once S3 has divided it (before
that S3 answers 503, and requests are retried); 85 MB/s a connection, two for a writer and 8 to 32 for a reader; 0.15 s to the first byte. What the reader's own disk
takes is not included. All writers flush at the same moment, which takes as many requests and seconds as in ` + "`TestManyFlushesAtOnce`" + `, with ten objects of the log a
second.

` + "`TestPlanIsWhatHappens`" + ` and ` + "`TestPlanOverGateway`" + ` run jobs of three sizes and count: PUTs and GETs are within a tenth of the plan; without a disk, within a tenth and a pass.

| writers | readers | data | memory | segments | passes | GET of | disk of a reader | catalog | upload s | commit s | read s | PUT | GET | requests $ | $ without a disk | storage $ a day |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, size := range []int64{1e11, 1e12, 1e13} {
		for _, n := range []int{10, 100, 1000} {
			for _, memory := range []int64{1 << 30, 4 << 30} {
				j := Job{Writers: n, Readers: n, Bytes: size}
				p, without := work(j, memory, math.MaxInt64).Plan(j), work(j, memory, 0).Plan(j)
				fmt.Fprintf(&b, "| %d | %d | %g TB | %d GiB | %d | %d | %s | %s | %d MiB | %.0f | %.0f | %.0f | %d | %d | %.2f | %.2f | %.2f |\n",
					n, n, float64(size)/1e12, memory>>30, p.Segments, p.Passes, kib(p.RangeBytes), gib(p.DiskBytes), p.CatalogBytes>>20,
					p.Upload, p.Commit, p.Read, p.Requests.Put, p.Requests.Get, p.RequestDollars, without.RequestDollars, p.StorageDollarsADay)
			}
		}
	}
	b.WriteString(`
## Where it stops scaling

- *With a disk, GETs are segments × readers*, and grow with the data: a reader reads its share of each segment by one request. Where its passes would make requests of a MiB
  or more anyway, or all fits in memory, it needs no disk and takes none: 10 TB in requests of a MiB are 4 dollars.
- *Without a disk, GETs are segments × passes of all readers*, and grow with the square of the data: passes grow with a reader's data, segments with all of it.
  A reader that cannot hold one range of all segments (16 KiB and more each) in a sixth of its memory reads that range once to count and once for each part that it can hold.
- *A reader's disk is its part of the data.* More readers need less each. A part beyond some 15 GB at 512 MiB of memory, or 64 times as much at eight times the memory, is read from
  the disk several times.
- *Segments are at most a seventh of a writer's memory*, and of a GiB. More memory makes fewer of them, and requests.
- *The catalog* takes at most an eighth of the memory. Beyond that it knows half as many ranges of each segment, and each reader reads more of others' data, by as many requests.
- *Every reader reads the whole log*, with the offsets in all segments: readers × segments.
- *One log* takes some ten objects a second, but one commits the records of up to 1,600 writers that wait. 1,000 flushes at the same moment take 3 to 4 seconds and 5 cents; each
  alone in the log, they took 113 seconds and 1.10 dollars. Thousands more meet S3's limit of requests a second for one prefix: 4,000 took 32 seconds.
- *Nothing is merged*: many small flushes make many small segments, and each is a request of every reader.
`)
	return b.String()
}

func gib(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func kib(n int64) string { return fmt.Sprintf("%.0f KiB", math.Ceil(float64(n)/1024)) }
