package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/go-partd/partd/objstore"
)

// cloudPlanPage returns the content of docs/cloud-plan.md.
func cloudPlanPage() string {
	var b strings.Builder
	b.WriteString(`# Estimated cost of a store in a cloud bucket

What does a shuffle through a bucket cost in requests, time and money? We have measured none of this size: ` + "`objstore.Job`" + `
computes the figures, also for your own job. The table, printed by ` + "`go run -C bench ./cloudplan`" + `, assumes:

- Entries have 100 bytes and are spread evenly over the keys. All writers flush once, simultaneously. Then as many readers read one part each.
- Segments are as large as memory allows (option ` + "`segment`" + `). Readers use a disk (option ` + "`disk`" + `).
- Dollars are list prices for S3 Standard in us-east-1, without machines and storage ($0.77 per TB and day). Traffic within a region is free.
- Seconds follow from S3's limits: 3,500 PUTs and 5,500 GETs per second and prefix, 85 MB/s per connection, 0.15 s until the first byte, and 256 prefixes.
  A writer uses two connections, and a reader 8 to 32.

| writers | data | memory | disk per reader | upload (s) | commit (s) | read (s) | GETs | requests ($) |
|---|---|---|---|---|---|---|---|---|
`)
	for _, size := range []int64{1e12, 1e13} {
		for _, n := range []int{10, 100, 1000} {
			for _, memory := range []int64{1 << 30, 4 << 30} {
				j := objstore.Job{Writers: n, Readers: n, Bytes: size, EntryBytes: 100, Options: objstore.Options{Memory: memory, SegmentSize: memory, Disk: math.MaxInt64}}
				p, err := j.Plan()
				if err != nil {
					panic(err)
				}
				fmt.Fprintf(&b, "| %d | %g TB | %d GiB | %s | %.0f | %.0f | %.0f | %d | %.2f |\n",
					n, float64(size)/1e12, memory>>30, formatGiB(p.DiskBytes), p.Upload, p.Commit, p.Read, p.Requests.Get, p.RequestDollars)
			}
		}
	}
	b.WriteString(`
## Limits of scaling

- *With a disk, the number of GETs is segments × readers*. A reader uses no disk if its data fits in memory, or if
  its average request would read at least 1 MiB.
- *Without a disk, the number is segments × passes of all readers.* It grows with the square of the data: 10 TB costs thousands of dollars.
- *A reader's disk holds its part of the data.* With 512 MiB of memory, a part larger than about 15 GB is read from disk several times;
  the limit grows with the square of the memory.
- *A segment is at most a seventh of a writer's memory*, and at most 1 GiB. Avoid many small flushes.
- *1,000 flushes at once* take 3 to 4 seconds, and 4,000 take 32.
`)
	return b.String()
}

func formatGiB(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
