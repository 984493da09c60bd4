package vfstest

import (
	"maps"
	"math/rand/v2"
	"syscall"
)

// place is a name in a directory.
type place struct {
	dir  *inode
	name string
}

// nameChange creates (to), removes (from) or renames (both, atomically) a file.
type nameChange struct {
	from, to place
	node     *inode
}

func (c *nameChange) applyTo(names func(dir *inode) map[string]*inode) {
	if c.from.dir != nil {
		if n := names(c.from.dir); n[c.from.name] == c.node {
			delete(n, c.from.name)
		}
	}
	if c.to.dir != nil {
		names(c.to.dir)[c.to.name] = c.node
	}
}

// mark adds the names that c changes to places.
func (c *nameChange) mark(places map[place]bool) {
	for _, p := range []place{c.from, c.to} {
		if p.dir != nil {
			places[p] = true
		}
	}
}

func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	m.syncNames(n)
	return nil
}

// syncNames makes the changes of a directory durable, and the earlier changes of the same names in
// other directories.
func (m *Mem) syncNames(dir *inode) {
	selected := make([]bool, len(m.pending))
	touched := map[place]bool{}
	for i := len(m.pending) - 1; i >= 0; i-- {
		c := m.pending[i]
		if c.from.dir == dir || c.to.dir == dir || touched[c.from] || touched[c.to] {
			selected[i] = true
			c.mark(touched)
		}
	}
	written := map[*inode]bool{}
	rest := m.pending[:0:0]
	for i, c := range m.pending {
		if !selected[i] {
			rest = append(rest, c)
			continue
		}
		c.applyTo(func(d *inode) map[string]*inode {
			if !written[d] { // it may be shared with a clone or with names
				d.durableNames, written[d] = maps.Clone(d.durableNames), true
			}
			return d.durableNames
		})
	}
	m.pending = rest
}

// Crash returns the file system as it would be after a loss of power now. Synced data is there. rnd
// chooses which unsynced names and bytes survive, are torn at multiples of 512 or 4,096 bytes, or are
// lost. If rnd is nil, all unsynced data is lost. Renames are atomic, and changes of one name keep
// their order. No locks are held. m itself does not change.
func (m *Mem) Crash(rnd *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.emptyClone()
	names := m.namesAfterCrash(rnd)
	copies := map[*inode]*inode{}
	var revive func(n *inode) *inode
	revive = func(n *inode) *inode {
		if done := copies[n]; done != nil {
			done.links++
			return done
		}
		r := &inode{ino: n.ino, mode: n.mode, links: 1, mtime: n.mtime, ctime: n.ctime}
		copies[n] = r
		if !n.isDir() {
			r.cur = n.afterCrash(rnd, m.ZeroLostPages)
			r.durable = r.cur
			return r
		}
		old := names(n)
		r.names = make(map[string]*inode, len(old))
		for name, child := range old {
			r.names[name] = revive(child)
		}
		r.durableNames = r.names
		return r
	}
	c.root = revive(m.root)
	return c
}

// emptyClone returns an empty file system with m's settings.
func (m *Mem) emptyClone() *Mem {
	c := &Mem{ZeroLostPages: m.ZeroLostPages, MaxOpen: m.MaxOpen, lastIno: m.lastIno, clock: m.clock}
	c.unlocked.L = &c.mu
	return c
}

// namesAfterCrash chooses the changes of names that survive, and returns a function that returns the
// resulting names of a directory.
func (m *Mem) namesAfterCrash(rnd *rand.Rand) func(dir *inode) map[string]*inode {
	changed := map[*inode]map[string]*inode{}
	names := func(dir *inode) map[string]*inode {
		n, ok := changed[dir]
		if !ok {
			n = maps.Clone(dir.durableNames)
			changed[dir] = n
		}
		return n
	}
	if rnd != nil {
		survives := survivors(rnd, m.pending)
		for i := range m.pending {
			if survives(i) {
				m.pending[i].applyTo(names)
			}
		}
	}
	return func(dir *inode) map[string]*inode {
		if n, ok := changed[dir]; ok {
			return n
		}
		return dir.durableNames
	}
}

// survivors chooses one of: nothing, everything, a prefix, or random changes that do not depend on a
// lost one. The returned function must be called in order.
func survivors(rnd *rand.Rand, pending []nameChange) func(i int) bool {
	switch first := 0; rnd.IntN(4) {
	case 0:
		return func(int) bool { return false }
	case 1:
		return func(int) bool { return true }
	case 2:
		first = rnd.IntN(len(pending) + 1)
		return func(i int) bool { return i < first }
	}
	lost := map[place]bool{}
	return func(i int) bool {
		c := &pending[i]
		if rnd.IntN(2) == 0 && !lost[c.from] && !lost[c.to] {
			return true
		}
		c.mark(lost)
		return false
	}
}

// KillClone returns the file system as the next process finds it after kill -9 of the process that
// uses m: every write is there, synced or not, but a Crash of the clone can still lose unsynced
// writes. No locks are held. m itself does not change.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.emptyClone()
	copies := map[*inode]*inode{}
	var clone func(n *inode) *inode
	clone = func(n *inode) *inode {
		if done := copies[n]; done != nil {
			return done
		}
		n.isOwned = false
		r := &inode{
			ino: n.ino, mode: n.mode, links: n.links, mtime: n.mtime, ctime: n.ctime,
			cur: n.cur, durable: n.durable, log: n.log[:len(n.log):len(n.log)],
		}
		if n.intended != nil {
			r.intended = n.onDisk().clone()
		}
		copies[n] = r
		if n.isDir() {
			r.names, r.durableNames, r.ownNames = map[string]*inode{}, map[string]*inode{}, true
			for name, child := range n.names {
				r.names[name] = clone(child)
			}
			for name, child := range n.durableNames {
				r.durableNames[name] = clone(child)
			}
		}
		return r
	}
	c.root = clone(m.root)
	clonePlace := func(p place) place {
		if p.dir == nil {
			return p
		}
		return place{clone(p.dir), p.name}
	}
	for _, p := range m.pending {
		c.pending = append(c.pending, nameChange{from: clonePlace(p.from), to: clonePlace(p.to), node: clone(p.node)})
	}
	return c
}
