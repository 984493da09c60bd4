package vfstest

import (
	"encoding/binary"
	"hash/maphash"
	"path"
	"slices"
)

var sumSeed = maphash.MakeSeed()

// Sum returns a hash of the names, contents and modification times of all files that programs see,
// except those whose base names are in ignored. Tests use it to check equal results of crashes only
// once. The hash does not include which changes are unsynced, and differs between processes.
func (m *Mem) Sum(ignored ...string) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.root.sum("/", ignored)
}

func (n *inode) sum(name string, ignored []string) (sum uint64) {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	number := func(i uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], i)
		h.Write(b[:])
	}
	h.WriteString(name)
	number(n.ino)
	number(uint64(n.mode))
	if n.isDir() {
		for base, child := range n.names {
			if !slices.Contains(ignored, base) {
				sum += child.sum(path.Join(name, base), ignored)
			}
		}
		return sum + h.Sum64()
	}
	number(uint64(n.mtime))
	number(uint64(n.current.size))
	for i, p := range n.current.pages {
		if p != nil {
			number(uint64(i))
			h.Write(p.b[:])
		}
	}
	return h.Sum64()
}
