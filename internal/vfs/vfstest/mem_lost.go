package vfstest

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
