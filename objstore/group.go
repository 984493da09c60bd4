package objstore

import (
	"bytes"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// loadedInterval contains the entries of an interval in memory.
type loadedInterval struct {
	interval
	arena    []byte
	sections []section // in log order
	err      error
}

// section contains consecutive entries from one segment.
type section struct {
	segment int32 // index in the view
	offset  uint32
	entries []byte // part of the arena, at offset
}

func (l *loadedInterval) release() {
	offheap.Release(l.arena)
	l.arena = nil
}

// groups collects the entries of an interval of hashes by key, in log order. It can be
// reused for another interval.
type groups struct {
	format *segment.Format
	data   *loadedInterval
	refs   []ref
	keys   []group
	slots  []uint32 // hash table with open addressing: index in keys plus one; 0 if empty
	ledger segment.Ledger
}

// ref is an element of the linked list of a key's entries. off is the entry's position in the arena.
// next is the index of the next ref plus one, or 0 at the end.
type ref struct{ off, next uint32 }

// group is a key with its value.
type group struct {
	entryOffset       uint32 // position in the arena of an entry with this key
	hash              uint32 // lower half of the hash
	firstRef, lastRef uint32 // indices of the key's first and last ref, plus one
	skippedSegment    int32  // index plus one of the segment of a SetOnce that had no effect because the key existed; 0 if none
	exists            bool
	size              int64
}

// entryOverhead is the maximum memory for an entry in addition to its bytes: a ref, a group and slots.
// Their slices double when they grow, so up to half of each slice can be unused.
const entryOverhead = 2*8 + 2*32 + 4*4

// maxArena is the maximum size of an arena, because positions have 32 bits.
const maxArena = 1<<32 - 1

func (gs *groups) load(v view, l *loadedInterval) error {
	gs.data, gs.refs, gs.keys = l, gs.refs[:0], gs.keys[:0]
	clear(gs.slots)
	for i := range l.sections {
		sec := &l.sections[i]
		g := v.segments[sec.segment]
		if err := gs.addSection(g, sec, l.interval); err != nil {
			first, _ := g.rangesOf(l.interval)
			return g.file.Corrupt(g.Start+int64(g.Offsets[first]), err)
		}
	}
	return nil
}

func (gs *groups) addSection(g *committedSegment, sec *section, iv interval) error {
	for off := 0; off < len(sec.entries); {
		p, err := parseEntry(sec.entries, off)
		if err != nil {
			return err
		}
		key, arenaOff := sec.entries[p.key:p.value], sec.offset+uint32(off)
		if hash := gs.format.HashBytes(key); iv.contains(hash) {
			gs.ledger.AddEntry(p.kind, sec.entries[p.hashed:p.end], p.end-p.value)
			gs.apply(gs.find(hash, key, arenaOff), p.kind, arenaOff, int64(p.end-p.value), g.onlySetsNewKeys, sec.segment+1)
		}
		off = p.end
	}
	return nil
}

// entryPositions contains positions in an entry: the starts of the bytes that the ledger's checksum
// covers, of the key and of the value, and the entry's end.
type entryPositions struct {
	kind                    segment.Kind
	hashed, key, value, end int
}

// parseEntry finds the positions in the entry at off.
func parseEntry(b []byte, off int) (p entryPositions, err error) {
	var ok bool
	p.kind, p.key, p.value, p.end, ok = segment.ParseShort(b, off)
	if ok {
		p.hashed = p.key - 1
		return p, nil
	}
	e, err := segment.ParseEntry(b[off:])
	if err == nil && e.Kind == segment.KindBlob {
		err = segment.ErrBadEntry // stores in buckets have no blobs
	}
	p.kind, p.hashed, p.end = e.Kind, off+e.HashStart, off+len(e.Raw)
	p.value = p.end - len(e.Value)
	p.key = p.value - len(e.Key)
	return p, err
}

// apply applies an entry to its key's group.
func (gs *groups) apply(k *group, kind segment.Kind, off uint32, size int64, onlySetsNewKeys bool, segmentIndex int32) {
	switch {
	case onlySetsNewKeys && kind == segment.KindSet && k.exists:
		k.skippedSegment = segmentIndex
		return
	case k.skippedSegment == segmentIndex:
		return
	case kind != segment.KindAppend:
		k.firstRef, k.lastRef, k.size, k.exists = 0, 0, 0, kind == segment.KindSet
	default:
		k.exists = true
	}
	if size == 0 {
		return
	}
	gs.refs = append(gs.refs, ref{off: off})
	n := uint32(len(gs.refs))
	if k.lastRef != 0 {
		gs.refs[k.lastRef-1].next = n
	} else {
		k.firstRef = n
	}
	k.lastRef = n
	k.size += size
}

// noEntry, passed to [groups.find] as off, means that a missing key must not be added.
const noEntry = 1<<32 - 1

// find returns the group of a key. If the key is new, find adds a group for the entry at off. If off is
// noEntry, it returns nil instead.
func (gs *groups) find(hash uint64, key []byte, off uint32) *group {
	if 2*len(gs.keys) >= len(gs.slots) {
		gs.grow()
	}
	mask := uint32(len(gs.slots) - 1)
	for i := uint32(hash>>32)&mask ^ uint32(hash)&mask; ; i = (i + 1) & mask {
		n := gs.slots[i]
		if n == 0 && off == noEntry {
			return nil
		}
		if n == 0 {
			gs.keys = append(gs.keys, group{entryOffset: off, hash: uint32(hash)})
			gs.slots[i] = uint32(len(gs.keys))
			return &gs.keys[len(gs.keys)-1]
		}
		if k := &gs.keys[n-1]; k.hash == uint32(hash) && bytes.Equal(gs.entry(k.entryOffset).Key, key) {
			return k
		}
	}
}

func (gs *groups) grow() {
	oldKeys := gs.keys
	gs.slots = make([]uint32, max(2*len(gs.slots), 1<<10))
	mask := uint32(len(gs.slots) - 1)
	for n := range oldKeys {
		hash := gs.format.HashBytes(gs.entry(oldKeys[n].entryOffset).Key)
		i := uint32(hash>>32)&mask ^ uint32(hash)&mask
		for gs.slots[i] != 0 {
			i = (i + 1) & mask
		}
		gs.slots[i] = uint32(n + 1)
	}
}

// entry returns the entry at off, which must be valid.
func (gs *groups) entry(off uint32) segment.Entry {
	e, _ := segment.ParseEntry(gs.data.arena[off:])
	return e
}

// eachPiece calls yield for the pieces of a value, in order, until yield returns false. It reports
// whether yield always returned true.
func (gs *groups) eachPiece(k *group, yield func(b []byte) bool) bool {
	for n := k.firstRef; n != 0; n = gs.refs[n-1].next {
		if !yield(gs.entry(gs.refs[n-1].off).Value) {
			return false
		}
	}
	return true
}

// chunker combines the pieces of a value into chunks of chunkLen.
type chunker struct {
	key    string
	buf    []byte
	offset int64
	yield  func(partd.Chunk, error) bool
}

const chunkLen = 256 << 10

func (c *chunker) add(b []byte) bool {
	for len(b) > 0 {
		if len(c.buf) == chunkLen && !c.emit(false) {
			return false
		}
		n := min(chunkLen-len(c.buf), len(b))
		c.buf = append(c.buf, b[:n]...)
		b = b[n:]
	}
	return true
}

func (c *chunker) emit(last bool) bool {
	ok := c.yield(partd.Chunk{Key: c.key, Offset: c.offset, Data: c.buf, Last: last}, nil)
	c.offset += int64(len(c.buf))
	c.buf = c.buf[:0]
	return ok
}
