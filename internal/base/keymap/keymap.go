// Package keymap maps byte-string keys to small records without pointers, for millions of keys. It
// differs from a Go map in four ways: the garbage collector need not scan it; a record and its key
// can fit in one cache line; growing the map moves only 8 bytes per key; and the map reports its
// memory usage. A Slab stores the long keys and can also store values.
package keymap

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

const (
	pageShift  = 7
	pageLen    = 1 << pageShift // number of records in a page
	InlineKey  = 29             // maximum length of a key that is stored in its record
	firstSlots = 16
	largeTable = 1 << 13 // minimum number of slots, of 8 bytes each, for Prefetch to be useful
)

// ID identifies a record. After the record's key is deleted, another key may have the same ID. 0
// means no record.
type ID uint32

type record[V any] struct {
	hash uint64
	// key holds a short key, or the Ref of a longer one.
	key    [InlineKey]byte
	live   bool
	keyLen uint16
	val    V
}

// Map is a hash map from keys of up to 65,535 bytes to records of type V, which must not contain
// pointers. The zero value is empty. A Map is not safe for concurrent use.
type Map[V any] struct {
	// slots is an open-addressing table with linear probing. An empty slot is 0. The upper
	// half of a slot is the lower half of the key's hash; its lower half is the record's ID.
	slots  []uint64
	pages  []*[pageLen]record[V]
	nextID ID // the lowest ID that was never in use
	free   ID // first deleted record; deleted records are linked through their hash fields
	count  int
	// Strings stores the keys that are too long for a record. Several maps can share a Slab.
	// If it is nil, the map creates a Slab.
	Strings *Slab
}

// Hash returns the hash of a key for Find and Insert.
func Hash(seed maphash.Seed, key string) uint64 { return maphash.String(seed, key) }

// Len returns the number of keys.
func (m *Map[V]) Len() int { return m.count }

// Footprint returns the bytes that the map has allocated, not counting Strings.
func (m *Map[V]) Footprint() int64 {
	return int64(len(m.slots))*8 + int64(len(m.pages))*int64(unsafe.Sizeof([pageLen]record[V]{}))
}

// Prefetch loads the slots of hashes[i], for each i in indexes, into the processor's cache. Call it
// before Find for many keys, so that cache misses overlap. The caller must use the result, which
// has no meaning, so that the compiler keeps the memory reads. Prefetch does nothing for a small
// map.
func (m *Map[V]) Prefetch(hashes []uint64, indexes []uint32) (sink uint64) {
	if len(m.slots) < largeTable {
		return 0
	}
	mask := uint32(len(m.slots) - 1)
	for _, i := range indexes {
		sink += m.slots[uint32(hashes[i])&mask]
	}
	return sink
}

// Find returns the record for a key, or 0.
func (m *Map[V]) Find(hash uint64, key string) ID {
	if len(m.slots) == 0 {
		return 0
	}
	mask := uint32(len(m.slots) - 1)
	for i := uint32(hash) & mask; ; i = (i + 1) & mask {
		slot := m.slots[i]
		if slot == 0 {
			return 0
		}
		if uint32(slot>>32) == uint32(hash) && m.hasKey(ID(slot), hash, key) {
			return ID(slot)
		}
	}
}

// Insert returns a new record with a zero V, for a key that is not in the map.
func (m *Map[V]) Insert(hash uint64, key string) ID {
	id := m.add(hash)
	r := m.record(id)
	*r = record[V]{hash: hash, live: true, keyLen: uint16(len(key))}
	if len(key) <= InlineKey {
		copy(r.key[:], key)
	} else {
		if m.Strings == nil {
			m.Strings = new(Slab)
		}
		binary.LittleEndian.PutUint32(r.key[:], uint32(m.Strings.Store(key)))
	}
	return id
}

func (m *Map[V]) add(hash uint64) ID {
	if (m.count+1)*4 > len(m.slots)*3 {
		m.growSlots()
	}
	id := m.free
	if id != 0 {
		m.free = ID(m.record(id).hash)
	} else {
		m.nextID = max(m.nextID, 1)
		id = m.nextID
		m.nextID++
		if int(id>>pageShift) == len(m.pages) {
			m.pages = append(m.pages, new([pageLen]record[V]))
		}
	}
	InsertSlot(m.slots, uint64(uint32(hash))<<32|uint64(id))
	m.count++
	return id
}

// Exists reports whether id currently belongs to a key.
func (m *Map[V]) Exists(id ID) bool { return id < m.nextID && m.record(id).live }

// Hash returns the hash with which the record's key was inserted.
func (m *Map[V]) Hash(id ID) uint64 { return m.record(id).hash }

// Val returns the record's value. The pointer is valid until the key is deleted.
func (m *Map[V]) Val(id ID) *V { return &m.record(id).val }

// Key returns the record's key. The bytes are valid until the key is deleted.
func (m *Map[V]) Key(id ID) []byte {
	r := m.record(id)
	if r.keyLen <= InlineKey {
		return r.key[:r.keyLen]
	}
	return m.Strings.Stored(Ref(binary.LittleEndian.Uint32(r.key[:])), int(r.keyLen))
}

// Delete removes a record.
func (m *Map[V]) Delete(id ID) {
	r := m.record(id)
	mask := uint32(len(m.slots) - 1)
	i := uint32(r.hash) & mask
	for ID(m.slots[i]) != id {
		if m.slots[i] == 0 {
			panic("keymap: Delete of a record that does not exist")
		}
		i = (i + 1) & mask
	}
	// Close the gap: move back the following slots that Find would no longer reach.
	for j := (i + 1) & mask; m.slots[j] != 0; j = (j + 1) & mask {
		home := uint32(m.slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			m.slots[i] = m.slots[j]
			i = j
		}
	}
	m.slots[i] = 0
	if r.keyLen > InlineKey {
		m.Strings.FreeString(Ref(binary.LittleEndian.Uint32(r.key[:])))
	}
	*r = record[V]{hash: uint64(m.free)}
	m.free = id
	m.count--
}

// IDs calls yield for each record until yield returns false. No record may be inserted or deleted
// during the iteration.
func (m *Map[V]) IDs(yield func(ID) bool) {
	for _, slot := range m.slots {
		if slot != 0 && !yield(ID(slot)) {
			return
		}
	}
}

// Reset removes every key and releases all memory except Strings.
func (m *Map[V]) Reset() { *m = Map[V]{Strings: m.Strings} }

// Compact releases memory if most records are unused. It changes the IDs.
func (m *Map[V]) Compact() {
	if len(m.pages) <= 1 && len(m.slots) <= 2*pageLen || m.count*4 > len(m.pages)*pageLen {
		return
	}
	compacted := Map[V]{Strings: m.Strings}
	for id := range m.IDs {
		r := m.record(id)
		*compacted.record(compacted.add(r.hash)) = *r
	}
	*m = compacted
}

func (m *Map[V]) record(id ID) *record[V] { return &m.pages[id>>pageShift][id&(pageLen-1)] }

func (m *Map[V]) hasKey(id ID, hash uint64, key string) bool {
	r := m.record(id)
	if r.hash != hash || int(r.keyLen) != len(key) {
		return false
	}
	if len(key) <= InlineKey {
		return string(r.key[:len(key)]) == key
	}
	return string(m.Key(id)) == key
}

func (m *Map[V]) growSlots() {
	old := m.slots
	m.slots = make([]uint64, max(firstSlots, 2*len(old)))
	MoveSlots(m.slots, old)
}

// InsertSlot inserts a slot into an open-addressing table with linear probing. The table's length
// must be a power of two. The upper half of a slot is the lower half of the key's hash. An empty
// slot is 0.
func InsertSlot(slots []uint64, slot uint64) {
	mask := uint32(len(slots) - 1)
	i := uint32(slot>>32) & mask
	for slots[i] != 0 {
		i = (i + 1) & mask
	}
	slots[i] = slot
}

// MoveSlots inserts the slots of one table into another one.
func MoveSlots(to, from []uint64) {
	for _, slot := range from {
		if slot != 0 {
			InsertSlot(to, slot)
		}
	}
}
