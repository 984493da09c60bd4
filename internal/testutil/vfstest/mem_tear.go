package vfstest

import "math/rand/v2"

// afterCrash returns the content of a file after a power failure: the durable content if rnd is
// nil, or else a random mix of durable and unsynced data. zeros is Mem.ZeroLostPages.
func (n *inode) afterCrash(rnd *rand.Rand, zeros bool) *content {
	if rnd == nil || len(n.log) == 0 {
		return n.durable
	}
	block := int64(512)
	if rnd.IntN(2) == 0 {
		block = 4096
	}
	switch rnd.IntN(4) {
	case 0:
		return n.durable
	case 1:
		n.isOwned = false // now shared
		return n.onDisk()
	case 2:
		return n.tornPrefix(rnd, block)
	default:
		return n.tornAnywhere(rnd, block, zeros)
	}
}

// tornPrefix returns the durable content after a random number of the logged changes, in order, and
// possibly some blocks of the next write.
func (n *inode) tornPrefix(rnd *rand.Rand, block int64) *content {
	c := n.durable.clone()
	applied := rnd.IntN(len(n.log) + 1)
	for i := range n.log[:applied] {
		n.log[i].applyTo(c)
	}
	if applied < len(n.log) {
		torn := &n.log[applied]
		if size := int64(len(torn.data)); size > 0 {
			end := (torn.off + rnd.Int64N(size)) / block * block
			if end > torn.off {
				c.writeAt(torn.data[:end-torn.off], torn.off)
			}
		}
	}
	return c
}

func (w *change) applyTo(c *content) {
	if w.data == nil {
		c.truncate(w.off)
		return
	}
	c.writeAt(w.data, w.off)
}

// tornAnywhere chooses, independently for each block and for the file size, how many changes
// reached the disk, because disks and page caches can reorder writes. If a truncation is lost, all
// later changes are lost too, because a file system frees blocks before it reuses them.
func (n *inode) tornAnywhere(rnd *rand.Rand, block int64, zeros bool) *content {
	log := n.log
	changesInSize := rnd.IntN(len(log) + 1) // number of changes included in the size on disk
	if rnd.IntN(2) == 0 {
		changesInSize = len(log)
	}
	base := n.durable.size // smallest size during the changes; all bytes after it are new
	size := n.durable.size
	for i, w := range log {
		shrinks := w.sizeAfter < size
		if i >= changesInSize && shrinks {
			log = log[:i]
			break
		}
		base, size = min(base, w.sizeAfter), w.sizeAfter
	}
	size = n.durable.size
	if changesInSize > 0 {
		size = n.log[changesInSize-1].sizeAfter
	}

	c := n.durable.clone()
	blockChanges := map[int64]int{} // for each block, the number of changes included on disk
	firstLost := size               // offset of the first lost byte after base
	for i := range log {
		w := &log[i]
		if w.data == nil {
			if i < changesInSize {
				c.truncate(w.off)
			}
			continue
		}
		for position := w.off; position < w.off+int64(len(w.data)); {
			end := min((position/block+1)*block, w.off+int64(len(w.data)))
			included, ok := blockChanges[position/block]
			if !ok {
				included = randomCount(rnd, len(log))
				blockChanges[position/block] = included
			}
			if i < included {
				c.writeAt(w.data[position-w.off:end-w.off], position)
			} else if end > base {
				firstLost = min(firstLost, max(position, base))
			}
			position = end
		}
	}
	if !zeros {
		size = min(size, firstLost)
	}
	c.truncate(size)
	return c
}

// randomCount returns 0, n, or a random number up to n.
func randomCount(rnd *rand.Rand, n int) int {
	switch rnd.IntN(5) {
	case 0:
		return 0
	case 1:
		return rnd.IntN(n + 1)
	default:
		return n
	}
}

// failSync simulates a failed fsync(2) on Linux: unsynced data can still be read, but is not written
// to disk unless a program writes it again.
func (f *memFile) failSync() {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if n := f.node; !f.closed && !n.isDir() {
		n.intended, n.log = n.durable.clone(), nil
	}
}

// onDisk returns the content that the disk will have once all changes are written.
func (n *inode) onDisk() *content {
	if n.intended == nil {
		return n.current
	}
	c := n.intended
	n.intended = c.clone()
	return c
}
