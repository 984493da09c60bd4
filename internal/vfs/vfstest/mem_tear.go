package vfstest

import "math/rand/v2"

// afterCrash returns the content of a file after a loss of power.
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

// tornPrefix applies a prefix of the changes, and perhaps the first blocks of the next write.
func (n *inode) tornPrefix(rnd *rand.Rand, block int64) *content {
	c := n.durable.clone()
	whole := rnd.IntN(len(n.log) + 1)
	for i := range n.log[:whole] {
		n.log[i].applyTo(c)
	}
	if whole < len(n.log) {
		torn := &n.log[whole]
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

// tornAnywhere chooses for each block, and for the file's size, independently when it was last written
// to disk, because disks and page caches keep no order. A lost truncation loses all later changes,
// because a file system reuses no block before it has freed it.
func (n *inode) tornAnywhere(rnd *rand.Rand, block int64, zeros bool) *content {
	log := n.log
	sized := rnd.IntN(len(log) + 1) // number of changes that the size has seen
	if rnd.IntN(2) == 0 {
		sized = len(log)
	}
	base := n.durable.size // bytes beyond base are new
	size := n.durable.size
	for i, w := range log {
		shrinks := w.sizeAfter < size
		if i >= sized && shrinks {
			log = log[:i]
			break
		}
		base, size = min(base, w.sizeAfter), w.sizeAfter
	}
	size = n.durable.size
	if sized > 0 {
		size = n.log[sized-1].sizeAfter
	}

	c := n.durable.clone()
	moments := map[int64]int{} // by block: number of changes that it has seen
	whole := size              // offset of the first lost byte of the new part
	for i := range log {
		w := &log[i]
		if w.data == nil {
			if i < sized {
				c.truncate(w.off)
			}
			continue
		}
		for at := w.off; at < w.off+int64(len(w.data)); {
			end := min((at/block+1)*block, w.off+int64(len(w.data)))
			seen, ok := moments[at/block]
			if !ok {
				seen = randomMoment(rnd, len(log))
				moments[at/block] = seen
			}
			if i < seen {
				c.writeAt(w.data[at-w.off:end-w.off], at)
			} else if end > base {
				whole = min(whole, max(at, base))
			}
			at = end
		}
	}
	if !zeros {
		size = min(size, whole)
	}
	c.truncate(size)
	return c
}

// randomMoment returns 0, n, or a random number up to n.
func randomMoment(rnd *rand.Rand, n int) int {
	switch rnd.IntN(5) {
	case 0:
		return 0
	case 1:
		return rnd.IntN(n + 1)
	default:
		return n
	}
}

// failSync has the effect of a failed fsync(2) on Linux: unsynced data can be read, but never reaches
// the disk unless it is written again.
func (f *memFile) failSync() {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if n := f.node; !f.closed && !n.isDir() {
		n.intended, n.log = n.durable.clone(), nil
	}
}

// onDisk returns the content that the disk has once everything is written.
func (n *inode) onDisk() *content {
	if n.intended == nil {
		return n.cur
	}
	c := n.intended
	n.intended = c.clone()
	return c
}
