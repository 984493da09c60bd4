package objstore

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// PlanPage returns the content of docs/cloud-plan.md.
func PlanPage() string {
	var b strings.Builder
	b.WriteString(`# The cost of a store in a bucket

This page shows how many requests, seconds and dollars a shuffle through a bucket takes. ` + "`partd-cloud plan`" + ` computes these figures with the code that divides a store's work into requests.

The table assumes:

- Entries are 100 bytes long and are spread evenly over the keys. Each writer flushes once, at the end. Each reader reads its part once.
- Readers use a disk (option ` + "`disk`" + `), except in the column "$ without a disk". Segments are as large as memory allows (option ` + "`segment`" + `).
- Opening the store needs 13 PUTs, 12 of which test that only one of several creators of an object succeeds. Each commit needs a GET, which confirms that this writer succeeded.
- Dollars are list prices for S3 Standard in us-east-1. Traffic within a region is free. Machines are not included.
- Seconds follow from the limits in S3's documentation: 3,500 PUTs and 5,500 GETs per second and prefix, 85 MB/s per connection, and 0.15 s until the first byte. S3 divides a store into 256 prefixes.
  (Before it has done so, it answers 503, and requests are retried.) A writer uses two connections, and a reader 8 to 32. The time for a reader's own disk is not included.
- All writers flush at the same moment. ` + "`TestManyFlushesAtOnce`" + ` measured this case, with a log that accepts ten objects a second.

` + "`TestPlanMatchesRequests`" + ` and ` + "`TestPlanOverGateway`" + ` run jobs of three sizes and count requests. PUTs and GETs differ from the plan by at most a tenth, or without a disk by at most a tenth and one pass.

| writers | readers | data | memory | segments | passes | size of a GET | disk of a reader | catalog | upload s | commit s | read s | PUT | GET | requests $ | $ without a disk | storage $ a day |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, size := range []int64{1e11, 1e12, 1e13} {
		for _, n := range []int{10, 100, 1000} {
			for _, memory := range []int64{1 << 30, 4 << 30} {
				j := Job{Writers: n, Readers: n, Bytes: size, EntryBytes: 100, Options: Options{Memory: memory, SegmentSize: memory}}
				withoutDisk, err := j.Plan()
				j.Options.Disk = math.MaxInt64
				p, diskErr := j.Plan()
				if err := errors.Join(err, diskErr); err != nil {
					panic(err)
				}
				fmt.Fprintf(&b, "| %d | %d | %g TB | %d GiB | %d | %d | %s | %s | %d MiB | %.0f | %.0f | %.0f | %d | %d | %.2f | %.2f | %.2f |\n",
					n, n, float64(size)/1e12, memory>>30, p.Segments, p.Passes, kib(p.RangeBytes), gib(p.DiskBytes), p.CatalogBytes>>20,
					p.Upload, p.Commit, p.Read, p.Requests.Put, p.Requests.Get, p.RequestDollars, withoutDisk.RequestDollars, p.StorageDollarsPerDay)
			}
		}
	}
	b.WriteString(`
## Limits of scaling

- *With a disk, the number of GETs is segments × readers*, so it grows with the data. A reader reads its share of each segment with one request. A reader uses no disk if all data fits in memory. It also
  uses no disk if each request in its passes would read at least a MiB, because reading 10 TB in requests of a MiB costs only 4 dollars.
- *Without a disk, the number of GETs is segments × passes of all readers*. It grows with the square of the data, because passes grow with a reader's data, and segments with all data. A range
  has at least 16 KiB per segment. If a reader cannot load one range of all segments into a sixth of its memory, it reads the range once to measure it, and once for each part that fits.
- *A reader's disk holds its part of the data.* With more readers, each needs less disk. With 512 MiB of memory, a part larger than about 15 GB is read from disk
  several times. With eight times the memory, this limit is 64 times as high.
- *A segment is at most a seventh of a writer's memory*, and at most 1 GiB. With more memory, there are fewer segments and requests.
- *The catalog uses at most an eighth of the memory.* If it needs more, the number of ranges per segment is halved. Then each reader also reads data of other readers, with the same number of requests.
- *Every reader reads the whole log*, including the offsets in all segments, so this work is readers × segments.
- *The log accepts about ten objects a second*, but one object commits the records of up to 1,600 waiting writers. 1,000 flushes at the same moment need 3 to 4 seconds and 5 cents; when each flush wrote its own log object, they needed 113 seconds and 1.10 dollars. Far more flushes are slowed down by S3's limit of requests per second and prefix: 4,000 needed 32 seconds.
- *Segments are never merged.* Many small flushes create many small segments, and each costs every reader a request.
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
