package logstore

import "math"

// hashRange is the interval of hashes from lo to hi, inclusive.
type hashRange struct{ lo, hi uint64 }

var allHashes = hashRange{0, math.MaxUint64}

func (r hashRange) contains(hash uint64) bool { return r.lo <= hash && hash <= r.hi }

type scanRequest struct {
	hashes   hashRange
	parts    int  // number of parts into which the caller divides the store; their scans may run concurrently
	keysOnly bool // yield keys with sizes instead of chunks
}

// scanPartition is an interval of hashes that one worker reads.
type scanPartition struct {
	hashes  hashRange
	batches chan *scanBatch
	err     error // set before batches is closed
}

// scanBatch holds chunks, or keys, that a worker sends to the consumer of a scan.
type scanBatch struct {
	free  chan<- *scanBatch // the consumer returns the batch on this channel
	keys  []byte
	data  []byte
	items []scanItem
}

// scanItem is a chunk or, in a scan of keys, a key.
type scanItem struct {
	offset   int64  // offset of the chunk in the value
	size     int64  // in a scan of keys, the size of the value
	keyEnd   uint32 // end of the key in scanBatch.keys; it begins at the previous item's keyEnd
	start, n uint32 // position of the chunk in scanBatch.data
	last     bool   // this is the key's last chunk
}

const scanItemLen = 32

func (b *scanBatch) reset() { b.keys, b.data, b.items = b.keys[:0], b.data[:0], b.items[:0] }

func (b *scanBatch) size() int { return len(b.keys) + len(b.data) + scanItemLen*len(b.items) }

func (b *scanBatch) add(key []byte, item scanItem) {
	b.keys = append(b.keys, key...)
	item.keyEnd = uint32(len(b.keys))
	b.items = append(b.items, item)
}

// each calls yield for each item in order until yield returns false. Neighboring keys share an
// allocation. It is small, because a caller that keeps one key retains the whole allocation.
func (b *scanBatch) each(yield func(key string, item *scanItem) bool) bool {
	const maxShared = 1 << 10
	var keys string
	keysStart, keysEnd := uint32(0), uint32(0) // keys is b.keys[keysStart:keysEnd]
	keyStart := uint32(0)
	for i := range b.items {
		item := &b.items[i]
		if item.keyEnd > keysEnd {
			keysStart, keysEnd = keyStart, item.keyEnd
			for j := i + 1; j < len(b.items) && b.items[j].keyEnd-keysStart <= maxShared; j++ {
				keysEnd = b.items[j].keyEnd
			}
			keys = string(b.keys[keysStart:keysEnd])
		}
		if !yield(keys[keyStart-keysStart:item.keyEnd-keysStart], item) {
			return false
		}
		keyStart = item.keyEnd
	}
	return true
}

const batchesPerWorker = 2

const (
	maxBatchBytes      = 512 << 10
	maxTotalBatchBytes = 12 << 20 // maximum size of all batches of a scan together, in bytes
	minWorkerBytes     = 2 << 20  // minimum memory per worker
)
