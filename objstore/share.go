package objstore

import "github.com/go-partd/partd/internal/segment"

// share is what an interval is of some segments.
type share struct {
	requests int64 // one for each segment that has some of it
	bytes    int64 // of the ranges that hold it
	weight   int64 // what these take in memory at the most
	own      int64 // bytes without the other hashes in its first and last ranges, about
	entries  int64 // of these
}

func (v view) share(iv interval) (sh share) {
	for _, g := range v.segments {
		bytes, weight := g.weight(iv)
		if bytes == 0 {
			continue
		}
		first, end := g.rangesOf(iv)
		own := float64(bytes) - g.others(iv, first)
		if end-1 > first {
			own -= g.others(iv, end-1)
		}
		sh.bytes += bytes
		sh.weight += weight
		sh.own += int64(own)
		sh.entries += int64(own * g.perByte())
		if g.data == nil {
			sh.requests++
		}
	}
	return sh
}

// times is the share of so many segments that are all alike.
func (sh share) times(n int64) share {
	return share{sh.requests * n, sh.bytes * n, sh.weight * n, sh.own * n, sh.entries * n}
}

// others is how many bytes of a range have hashes that an interval has not, if all
// hashes have as much.
func (g *stored) others(iv interval, r int) float64 {
	lo, hi := segment.Bounds(r, r+1, g.Bits)
	own := float64(min(hi, iv.hi)-max(lo, iv.lo)) + 1
	return float64(g.Off[r+1]-g.Off[r]) * (1 - own/(float64(hi-lo)+1))
}

// perByte is how many entries the segment has for each of its bytes.
func (g *stored) perByte() float64 {
	return float64(g.ledger.Pieces+g.ledger.Marks) / float64(max(g.Length(), 1))
}

// passes is how often a reader with so much memory reads its share of each segment,
// without a disk.
func (sh *share) passes(budget int64) int64 { return max((sh.weight+budget-1)/budget, 1) }

// onDisk reports whether a reader with so much memory regroups its share on its disk:
// if it may, and if its passes would make requests that are too short.
func (o *Options) onDisk(sh *share, budget int64) bool {
	if o.Disk == 0 || sh.own == 0 {
		return false
	}
	short := sh.bytes/max(sh.passes(budget)*sh.requests, 1) < o.hooks.requestBytes
	return o.hooks.regroup || sh.weight > budget && short
}

// batch is how much of a bucket a reader loads while the batch before goes to the disk.
func (sc *scanner) batch() int64 { return sc.budget * 2 / 5 }

// piling is how a share is divided on disk.
type piling struct {
	piles int
	block int   // bytes that a pile gathers before they are written
	need  int64 // bytes of the disk, about
}

const (
	minPileBlock = 64 << 10
	maxPileBlock = 1 << 20
	perBlock     = 48 // bytes of memory, to know where a block is
	perSection   = 48
)

// piling divides the share so that two piles fit in memory at a time. While it is
// written, two batches take up to four fifths of a budget, what piles gather takes half
// of another one, and to know where blocks are takes a quarter. If that is not enough
// for so many piles, they are read from the disk several times.
func (sh *share) piling(budget int64) (p piling) {
	weight := float64(sh.weight) * float64(sh.own) / float64(sh.bytes)
	block := max(minPileBlock, sh.own*4*perBlock/budget)
	piles := min(int64(weight/float64(budget)*3/2)+2, max(budget/2/block, 2))
	p.piles, p.block = int(piles), int(max(min(budget/2/piles, maxPileBlock), block))
	p.need = sh.own + sectionHead*(min(sh.entries, sh.requests*piles)+sh.own/block)
	return p
}
