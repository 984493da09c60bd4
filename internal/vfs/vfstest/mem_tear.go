package vfstest

import "math/rand/v2"

// afterCrash returns the content that a file has after a loss of power.
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
		n.own = false // shared from now on
		return n.onDisk()
	case 2:
		return n.tornPrefix(rnd, block)
	default:
		return n.tornAnywhere(rnd, block, zeros)
	}
}

// tornPrefix applies the first few changes, and perhaps the first blocks of the
// write that follows them.
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

// tornAnywhere gives each block a moment of its own at which it was last
// written to the disk, and the file's size one, too: disks and page caches know
// no order. A cut that was lost takes all later changes with it, since a file
// system reuses no block before it has freed it.
func (n *inode) tornAnywhere(rnd *rand.Rand, block int64, zeros bool) *content {
	log := n.log
	sized := rnd.IntN(len(log) + 1) // the size is that after the first so many changes
	if rnd.IntN(2) == 0 {
		sized = len(log)
	}
	base := n.durable.size // beyond it, the file has grown
	size := n.durable.size
	for i, w := range log {
		cut := w.sizeThen < size
		if i >= sized && cut {
			log = log[:i]
			break
		}
		base, size = min(base, w.sizeThen), w.sizeThen
	}
	size = n.durable.size
	if sized > 0 {
		size = n.log[sized-1].sizeThen
	}

	c := n.durable.clone()
	moments := map[int64]int{} // by block: how many changes it has seen
	whole := size              // where the first lost byte of the new part is
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
				seen = moment(rnd, len(log))
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

// moment chooses none of n changes, all, or the first few.
func moment(rnd *rand.Rand, n int) int {
	switch rnd.IntN(5) {
	case 0:
		return 0
	case 1:
		return rnd.IntN(n + 1)
	default:
		return n
	}
}

// failSync does what a failed fsync(2) does on Linux: what was not synced can be
// read, and is never written to the disk, unless it is written again.
func (f *memFile) failSync() {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if n := f.node; !f.closed && !n.isDir() {
		n.kept, n.log = n.durable.clone(), nil
	}
}

// onDisk returns what the disk has once all is written.
func (n *inode) onDisk() *content {
	if n.kept == nil {
		return n.cur
	}
	c := n.kept
	n.kept = c.clone()
	return c
}
