package logstore

import (
	"io"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// A container's memory limit also limits the page cache, that is, the operating system's cache of
// file pages. If the cache is full of changed pages, the system writes all of them to the disk,
// including those of write-ahead files, which will soon be overwritten. A store under such a limit
// therefore writes its segments to the disk at once and removes them from the cache.

// pageLen is the usual size of a page in the page cache, in bytes.
const pageLen = 4096

// After each write, evictingWriter removes the evictLen bytes before it from the cache, except those
// that the system has not written to the disk yet.
const evictLen = 8 << 20

const (
	probeTables = 16  // a page cache is small if it cannot hold the segments of this many full tables
	evictTables = 256 // in a small page cache, evict the segments of this many full tables, then probe again
)

// cacheProbe detects a small page cache, from which the system soon removes new segments. It probes
// again later, because the lack of memory may be temporary.
type cacheProbe struct {
	isSmall bool
	written int64       // bytes of segments written since the probe began or isSmall was set
	ranges  []fileRange // the segments counted in written; empty if isSmall
}

type fileRange struct {
	file       *dataFile
	start, end int64
}

// add records that a segment was written to file. tableLen is the length of a full table.
func (p *cacheProbe) add(file *dataFile, start, end int64, tableLen int) {
	tableCount := probeTables
	if p.isSmall {
		tableCount = evictTables
	}
	if p.written >= int64(tableCount)*int64(tableLen) {
		*p = cacheProbe{}
	}
	p.written += end - start
	if p.isSmall {
		return
	}
	if n := len(p.ranges); n > 0 && p.ranges[n-1].file == file {
		p.ranges[n-1].end = end
	} else {
		p.ranges = append(p.ranges, fileRange{file, start, end})
	}
}

// check sets isSmall if the system has removed more than 1/16 of the oldest range from the cache. It
// then removes all ranges.
func (p *cacheProbe) check() {
	for i, r := range p.ranges {
		c, ok := r.file.f.(vfs.Cacher)
		n := r.end - r.start
		if !ok || i == 0 && c.Evicted(r.start, n) <= n/16 {
			return
		}
		c.Evict(r.start, n)
	}
	if len(p.ranges) > 0 {
		*p = cacheProbe{isSmall: true}
	}
}

// output returns the writer for a segment in f.
func (p *cacheProbe) output(f *dataFile) io.WriterAt {
	p.check()
	if c, ok := f.f.(vfs.Cacher); ok && p.isSmall {
		return evictingWriter{f.f, c}
	}
	return f.f
}

// evictingWriter writes a file but keeps little of it in the page cache.
type evictingWriter struct {
	f     io.WriterAt
	cache vfs.Cacher
}

func (w evictingWriter) WriteAt(b []byte, off int64) (int, error) {
	n, err := w.f.WriteAt(b, off)
	w.cache.WriteBack(off, int64(n))
	start := max(off-evictLen, 0)
	w.cache.Evict(start, off-start)
	return n, err
}
