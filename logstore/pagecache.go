package logstore

import (
	"io"
	"math"

	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/vfs"
)

// A memory limit of a container also limits the page cache, that is, the operating system's cache of
// file pages. If the cache is full of changed pages, the system writes all of them to the disk,
// including those of write-ahead files, which will soon be overwritten. A store under such a limit
// therefore writes its segments to the disk at once, and removes them from the cache.

// pageLen is the usual size of a page in the page cache, in bytes.
const pageLen = 4096

// evictLen is the number of bytes before each write that are removed from the cache, as far as the
// system has written them to the disk.
const evictLen = 8 << 20

// cacheProbe is data that was recently written: the segments since Open in one file.
type cacheProbe struct {
	file       *dataFile // nil if no segment was written
	start, end int64
}

// add adds a segment, unless it is in a later file.
func (p *cacheProbe) add(seg *storedSegment) {
	if p.file == nil {
		p.file, p.start = seg.file, seg.Start
	}
	if p.file == seg.file {
		p.end = seg.End
	}
}

// isEvicted reports whether the page cache has lost a part of the data.
func (p *cacheProbe) isEvicted() bool {
	if p.file == nil {
		return false
	}
	c, ok := p.file.f.(vfs.Cacher)
	n := p.end - p.start
	return ok && c.Cached(p.start, n) < n-n/16
}

// output returns the writer for a segment in f.
func (sl *sealer) output(f *dataFile) io.WriterAt {
	if !sl.cacheLimited && sl.probe.isEvicted() {
		sl.cacheLimited = true
		for _, old := range sl.catalog.files.files() {
			if c, ok := old.f.(vfs.Cacher); ok {
				c.Evict(0, math.MaxInt64)
			}
		}
	}
	if c, ok := f.f.(vfs.Cacher); ok && sl.cacheLimited {
		return evictingWriter{f.f, c}
	}
	return f.f
}

// evictingWriter writes a file, and keeps little of it in the page cache.
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

// maxPrefetch is the maximum number of bytes that a scan prefetches at a time.
const maxPrefetch = 8 << 20

// prefetch begins to read the ranges that the next partitions need, so that the disk gets many
// reads at once, each of several adjacent ranges. When workers reach ranges that were prefetched,
// it prefetches those after them. sc.mu must be held.
func (sc *scanner) prefetch(lastRange int) {
	if sc.nextRange < sc.prefetchAt || sc.prefetched > lastRange {
		return
	}
	sc.prefetchAt = max(sc.prefetched, sc.nextRange)
	sc.prefetched = packRanges(sc.prefetchAt, lastRange+1, sc.rangeSize, min(sc.memory, maxPrefetch))
	lo, hi := segment.HashBounds(sc.prefetchAt, sc.prefetched, sc.bits)
	for _, seg := range sc.v.segments {
		off := seg.Offsets[seg.RangeIndex(lo)]
		if c, ok := seg.file.f.(vfs.Cacher); ok {
			c.Prefetch(seg.Start+int64(off), seg.rangesLen(lo, hi))
		}
	}
}
