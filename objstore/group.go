package objstore

import (
	"bytes"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// groups puts the entries of an interval together by key, in the order of the log. It
// is used for one interval after the other.
type groups struct {
	format *segment.Format
	loaded *loaded
	refs   []ref
	keys   []group
	slots  []uint32 // open addressing: one more than the number of a group
	ledger segment.Ledger
}

// ref is an entry in the arena, and the next one of its key.
type ref struct{ at, next uint32 }

// group is a key with its value.
type group struct {
	at          uint32 // of an entry with the key, in the arena
	hash        uint32 // its lower half
	first, last uint32 // one more than the numbers of refs
	skip        int32  // one more than the number of the segment whose entries do not count
	exists      bool
	size        int64
}

// perEntry is what an entry takes besides its bytes at the most, if it is the only one
// of its key: ref, group and slots, while these grow.
const perEntry = 2*8 + 2*32 + 4*4

// maxArena is how much an arena holds, since refs have 32 bits.
const maxArena = 1<<32 - 1

func (gs *groups) add(v view, l *loaded) error {
	gs.loaded, gs.refs, gs.keys = l, gs.refs[:0], gs.keys[:0]
	clear(gs.slots)
	for i := range l.sections {
		sec := &l.sections[i]
		g := v.segments[sec.segment]
		if err := gs.addSection(g, sec, l.interval); err != nil {
			first, _ := g.rangesOf(l.interval)
			return g.file.Corrupt(g.Start+int64(g.Off[first]), err)
		}
	}
	return nil
}

func (gs *groups) addSection(g *stored, sec *section, iv interval) error {
	for at := 0; at < len(sec.entries); {
		p, err := parse(sec.entries, at)
		if err != nil {
			return err
		}
		key, place := sec.entries[p.key:p.value], sec.at+uint32(at)
		if hash := gs.format.HashBytes(key); iv.has(hash) {
			gs.ledger.AddEntry(p.kind, sec.entries[p.hashed:p.end], p.end-p.value)
			gs.apply(gs.find(hash, key, place), p.kind, place, int64(p.end-p.value), g.once, sec.segment+1)
		}
		at = p.end
	}
	return nil
}

// parsed says where the parts of an entry begin: what the ledger hashes, the key, the
// value, and what follows the entry.
type parsed struct {
	kind                    segment.Kind
	hashed, key, value, end int
}

// parse finds the parts of the entry at an offset.
func parse(b []byte, at int) (p parsed, err error) {
	var ok bool
	if p.kind, p.key, p.value, p.end, ok = segment.ParseShort(b, at); ok {
		p.hashed = p.key - 1
		return p, nil
	}
	e, err := segment.ParseEntry(b[at:])
	if err == nil && e.Kind == segment.KindBlob {
		err = segment.ErrBadEntry // which no store in a bucket has
	}
	p.kind, p.hashed, p.end = e.Kind, at+e.Head, at+len(e.Raw)
	p.value = p.end - len(e.Value)
	p.key = p.value - len(e.Key)
	return p, err
}

// apply changes the value of a key by an entry.
func (gs *groups) apply(k *group, kind segment.Kind, at uint32, size int64, once bool, number int32) {
	switch {
	case once && kind == segment.KindSet && k.exists:
		k.skip = number
		return
	case k.skip == number:
		return
	case kind != segment.KindAppend:
		k.first, k.last, k.size, k.exists = 0, 0, 0, kind == segment.KindSet
	default:
		k.exists = true
	}
	if size == 0 {
		return
	}
	gs.refs = append(gs.refs, ref{at: at})
	n := uint32(len(gs.refs))
	if k.last != 0 {
		gs.refs[k.last-1].next = n
	} else {
		k.first = n
	}
	k.last = n
	k.size += size
}

// noEntry is for find where a key is not to be added.
const noEntry = 1<<32 - 1

// find returns the group of a key, and begins it with an entry.
func (gs *groups) find(hash uint64, key []byte, at uint32) *group {
	if 2*len(gs.keys) >= len(gs.slots) {
		gs.grow()
	}
	mask := uint32(len(gs.slots) - 1)
	for i := uint32(hash>>32)&mask ^ uint32(hash)&mask; ; i = (i + 1) & mask {
		n := gs.slots[i]
		if n == 0 && at == noEntry {
			return nil
		}
		if n == 0 {
			gs.keys = append(gs.keys, group{at: at, hash: uint32(hash)})
			gs.slots[i] = uint32(len(gs.keys))
			return &gs.keys[len(gs.keys)-1]
		}
		if k := &gs.keys[n-1]; k.hash == uint32(hash) && bytes.Equal(gs.entry(k.at).Key, key) {
			return k
		}
	}
}

func (gs *groups) grow() {
	old := gs.keys
	gs.slots = make([]uint32, max(2*len(gs.slots), 1<<10))
	mask := uint32(len(gs.slots) - 1)
	for n := range old {
		hash := gs.format.HashBytes(gs.entry(old[n].at).Key)
		i := uint32(hash>>32)&mask ^ uint32(hash)&mask
		for gs.slots[i] != 0 {
			i = (i + 1) & mask
		}
		gs.slots[i] = uint32(n + 1)
	}
}

// entry returns an entry that was parsed before.
func (gs *groups) entry(at uint32) segment.Entry {
	e, _ := segment.ParseEntry(gs.loaded.arena[at:])
	return e
}

// pieces calls yield with the pieces of a key's value, in order, until it returns
// false, which is then the result.
func (gs *groups) pieces(k *group, yield func(b []byte) bool) bool {
	for n := k.first; n != 0; n = gs.refs[n-1].next {
		if !yield(gs.entry(gs.refs[n-1].at).Value) {
			return false
		}
	}
	return true
}

// chunker makes chunks, of a good size, of the pieces of a value.
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
