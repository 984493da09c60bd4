package vfstest

import (
	"maps"
	"math/rand/v2"
	"syscall"
)

type place struct {
	dir  *inode
	name string
}

// nameChange creates, removes or atomically renames a file. from is empty for a new file, and to is
// empty for a removed one.
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

func (c *nameChange) addTo(places map[place]bool) {
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

// syncNames makes the name changes in a directory durable. If such a change depends on an earlier
// change, for example in the other directory of a rename, the earlier change becomes durable too.
func (m *Mem) syncNames(dir *inode) {
	selected := make([]bool, len(m.pending))
	affected := map[place]bool{}
	for i := len(m.pending) - 1; i >= 0; i-- {
		c := m.pending[i]
		if c.from.dir == dir || c.to.dir == dir || affected[c.from] || affected[c.to] {
			selected[i] = true
			c.addTo(affected)
		}
	}
	cloned := map[*inode]bool{}
	remaining := m.pending[:0:0]
	for i, c := range m.pending {
		if !selected[i] {
			remaining = append(remaining, c)
			continue
		}
		c.applyTo(func(d *inode) map[string]*inode {
			if !cloned[d] { // durableNames can be the same map as d.names, or shared with a clone
				d.durableNames, cloned[d] = maps.Clone(d.durableNames), true
			}
			return d.durableNames
		})
	}
	m.pending = remaining
}

// Crash returns a copy of the file system as a power failure could leave it. Synced data survives.
// rnd chooses which unsynced names and bytes survive, in blocks of 512 or 4,096 bytes. If rnd is nil,
// all unsynced data is lost. Renames are atomic, and changes of the same name keep their order. In
// the copy, no locks are held. m does not change.
func (m *Mem) Crash(rnd *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.emptyClone()
	names := m.namesAfterCrash(rnd)
	copies := map[*inode]*inode{}
	var revive func(n *inode) *inode
	revive = func(n *inode) *inode {
		if existing := copies[n]; existing != nil {
			existing.links++
			return existing
		}
		r := &inode{ino: n.ino, mode: n.mode, links: 1, mtime: n.mtime, ctime: n.ctime}
		copies[n] = r
		if !n.isDir() {
			r.current = n.afterCrash(rnd, m.ZeroLostPages)
			r.durable = r.current
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

// emptyClone returns a file system without files that has m's settings.
func (m *Mem) emptyClone() *Mem {
	c := &Mem{ZeroLostPages: m.ZeroLostPages, MaxOpen: m.MaxOpen, lastIno: m.lastIno, clock: m.clock}
	c.unlocked.L = &c.mu
	return c
}

// namesAfterCrash chooses the name changes that survive, and returns a function that returns a
// directory's names after the crash.
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
		survives := chooseSurvivors(rnd, m.pending)
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

// chooseSurvivors chooses which changes survive: none, all, a prefix, or random ones that do not depend
// on a lost change. Call the returned function for each index of pending in increasing order.
func chooseSurvivors(rnd *rand.Rand, pending []nameChange) func(i int) bool {
	first := 0
	switch rnd.IntN(4) {
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
		c.addTo(lost)
		return false
	}
}

// KillClone returns a copy of the file system as it would be if the process were killed. The copy
// contains every write, but a Crash of it can still lose unsynced writes. In the copy, no locks are
// held. m does not change.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.emptyClone()
	copies := map[*inode]*inode{}
	var clone func(n *inode) *inode
	clone = func(n *inode) *inode {
		if existing := copies[n]; existing != nil {
			return existing
		}
		n.isOwned = false
		r := &inode{
			ino: n.ino, mode: n.mode, links: n.links, mtime: n.mtime, ctime: n.ctime,
			current: n.current, durable: n.durable, log: n.log[:len(n.log):len(n.log)],
		}
		if n.intended != nil {
			r.intended = n.onDisk().clone()
		}
		copies[n] = r
		if n.isDir() {
			r.names, r.durableNames, r.ownsNames = map[string]*inode{}, map[string]*inode{}, true
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
