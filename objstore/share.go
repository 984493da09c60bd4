package objstore

import "github.com/go-partd/partd/internal/engine/segment"

// share describes a reader's data: an interval of hashes in some segments.
type share struct {
	requests    int64 // number of requests: one for each uncached segment with data in the interval
	bytes       int64 // size of the segments' hash ranges that overlap the interval
	weight      int64 // memory that loading and grouping these ranges can need
	insideBytes int64 // approximate size of the entries in the interval
	entries     int64 // approximate number of the entries in the interval
}

func (v view) share(iv interval) (sh share) {
	for _, g := range v.segments {
		bytes, weight := g.weight(iv)
		if bytes == 0 {
			continue
		}
		first, end := g.rangesOf(iv)
		insideBytes := float64(bytes) - g.outsideBytes(iv, first)
		if end-1 > first {
			insideBytes -= g.outsideBytes(iv, end-1)
		}
		sh.bytes += bytes
		sh.weight += weight
		sh.insideBytes += int64(insideBytes)
		sh.entries += int64(insideBytes * g.entriesPerByte())
		if g.data == nil {
			sh.requests++
		}
	}
	return sh
}

func (sh share) times(n int64) share {
	return share{sh.requests * n, sh.bytes * n, sh.weight * n, sh.insideBytes * n, sh.entries * n}
}

// outsideBytes returns the approximate size of the entries in the given hash range that are outside of iv.
func (g *committedSegment) outsideBytes(iv interval, rangeIndex int) float64 {
	lo, hi := segment.HashBounds(rangeIndex, rangeIndex+1, g.Bits)
	insideHashes := float64(min(hi, iv.hi)-max(lo, iv.lo)) + 1
	return float64(g.Offsets[rangeIndex+1]-g.Offsets[rangeIndex]) * (1 - insideHashes/(float64(hi-lo)+1))
}

// passes returns how many passes a reader needs without a disk. budget is the memory for each pass,
// in bytes.
func (sh *share) passes(budget int64) int64 { return max((sh.weight+budget-1)/budget, 1) }

// usesDisk reports whether a reader groups its share on disk. It does if the options allow a disk,
// the share does not fit in memory, and reading it in several passes would make the average request
// smaller than o.hooks.requestBytes.
func (o *Options) usesDisk(sh *share, budget int64) bool {
	if o.Disk == 0 || sh.insideBytes == 0 {
		return false
	}
	requestsTooSmall := sh.bytes/max(sh.passes(budget)*sh.requests, 1) < o.hooks.requestBytes
	return o.hooks.alwaysRegroup || sh.weight > budget && requestsTooSmall
}

// pileLayout describes how a share is divided into piles on disk. The piles divide the share's
// interval of hashes into about equal parts.
type pileLayout struct {
	piles     int
	blockSize int   // bytes that a pile buffers before writing
	diskBytes int64 // approximate size of the file
}

const (
	minPileBlock  = 64 << 10
	maxPileBlock  = 1 << 20
	blockMemory   = 48 // memory for the position of a block in the file
	sectionHead   = 8  // length of a section's header in the file
	sectionMemory = 48 // memory for a section once its pile is loaded
)

// pileLayout divides the share so that each pile fits in budget bytes of memory, if possible. The
// reader has twice the budget, because it processes one pile while it loads the next. While it
// writes piles, it uses less: at most 4/5 of the budget for two batches, 1/2 for the buffers of all
// piles, and 1/4 for the positions of blocks. If the buffers' half is enough for only a few piles,
// the piles can be larger than the budget. Such piles are read several times.
func (sh *share) pileLayout(budget int64) (p pileLayout) {
	weight := float64(sh.weight) * float64(sh.insideBytes) / float64(sh.bytes)
	block := max(minPileBlock, sh.insideBytes*4*blockMemory/budget)
	piles := min(int64(weight/float64(budget)*3/2)+2, max(budget/2/block, 2))
	p.piles, p.blockSize = int(piles), int(max(min(budget/2/piles, maxPileBlock), block))
	p.diskBytes = sh.insideBytes + sectionHead*(min(sh.entries, sh.requests*piles)+sh.insideBytes/block)
	return p
}
