package logstore

import "github.com/go-partd/partd/internal/segment"

// grouper groups the entries that lie in one slice of memory by key.
type grouper struct {
	groups  []group
	entries []grouped // the first ones; those from rest on are read again when they are needed
	rest    int
	slots   []uint32 // hash table of indexes into groups, plus one
	blobs   int      // entries that are blobs
}

type group struct {
	hash    uint64
	keyAt   uint32
	keyLen  uint32
	size    int64  // of the value
	from    uint32 // nothing is left of entries before this one
	out     int    // where the value goes next
	exists  bool
	hasBlob bool
	skip    bool
}

type grouped struct {
	group uint32
	at    uint32 // of the value in the data
	n     uint32
	blob  bool
}

// groupData finds the keys of data, the sizes of their values, and the order of
// their entries. If there are many entries, it does nothing but return
// errTooMuch, unless all is true.
func (sc *scanner) groupData(data []byte, all bool) error {
	g := &sc.grouper
	g.groups, g.entries, g.rest, g.blobs = g.groups[:0], g.entries[:0], len(data), 0
	if g.slots == nil {
		g.slots = make([]uint32, 1<<10)
	}
	clear(g.slots)
	before, limit := sc.ledger, sc.maxGrouped()
	for at, n := 0, 0; at < len(data); n++ {
		if n == limit {
			if !all {
				sc.ledger = before
				return errTooMuch
			}
			g.rest = at
		}
		e, ok := segment.ParseShort(data[at:]) // not by parse: this is where a Scan spends its time
		if !ok {
			var err error
			if e, err = segment.ParseEntry(data[at:]); err != nil {
				return err
			}
		}
		keyAt := at + len(e.Raw) - len(e.Value) - len(e.Key)
		i := g.find(data, e.Key, uint32(keyAt), sc.s.format.HashBytes(e.Key))
		k := &g.groups[i]
		size := int64(len(e.Value))
		if e.Kind == segment.KindBlob {
			ref, err := segment.ParseBlobRef(e.Value)
			if err != nil {
				return err
			}
			size, k.hasBlob = ref.Length, true
			g.blobs++
		} else if !sc.keysOnly {
			account(&sc.ledger, &e)
		}
		k.exists = e.Kind != segment.KindDelete
		if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
			k.size, k.from = 0, uint32(n)
		}
		k.size += size
		if n < limit {
			g.entries = append(g.entries, groupedEntry(&e, i, keyAt))
		}
		at += len(e.Raw)
	}
	if len(sc.streamed) > 0 {
		for i := range g.groups {
			k := &g.groups[i]
			_, k.skip = sc.streamed[string(data[k.keyAt:k.keyAt+k.keyLen])]
		}
	}
	return nil
}

// find returns the group of a key, by its hash and then by all its bytes.
func (g *grouper) find(data, key []byte, keyAt uint32, hash uint64) uint32 {
	mask := uint64(len(g.slots) - 1)
	// The high bits chose the range and are much the same here.
	i := (hash * 0x9E3779B97F4A7C15 >> 20) & mask
	for ; g.slots[i] != 0; i = (i + 1) & mask {
		k := &g.groups[g.slots[i]-1]
		if k.hash == hash && string(data[k.keyAt:k.keyAt+k.keyLen]) == string(key) {
			return g.slots[i] - 1
		}
	}
	g.groups = append(g.groups, group{hash: hash, keyAt: keyAt, keyLen: uint32(len(key))})
	g.slots[i] = uint32(len(g.groups))
	if 2*len(g.groups) > len(g.slots) {
		g.slots = make([]uint32, 4*len(g.slots))
		mask = uint64(len(g.slots) - 1)
		for n := range g.groups {
			i := (g.groups[n].hash * 0x9E3779B97F4A7C15 >> 20) & mask
			for g.slots[i] != 0 {
				i = (i + 1) & mask
			}
			g.slots[i] = uint32(n + 1)
		}
	}
	return uint32(len(g.groups) - 1)
}

// emitGroups groups data and hands the groups over; see groupData.
func (sc *scanner) emitGroups(data []byte, all bool) error {
	if err := sc.groupData(data, all); err != nil {
		return err
	}
	if sc.keysOnly {
		return sc.emitKeys(data)
	}
	if err := sc.accountUnseen(data); err != nil {
		return err
	}
	groups := sc.groups
	for first := 0; first < len(groups); {
		k := &groups[first]
		if k.skip || !k.exists {
			first++
			continue
		}
		if k.hasBlob || k.size > int64(2*sc.batchBytes) {
			if err := sc.emitLarge(data, first); err != nil {
				return err
			}
			first++
			continue
		}
		next, err := sc.emitSmall(data, first)
		if err != nil {
			return err
		}
		first = next
	}
	return nil
}

func (sc *scanner) emitKeys(data []byte) error {
	for i := range sc.groups {
		k := &sc.groups[i]
		if k.skip || !k.exists {
			continue
		}
		b, err := sc.room(int(k.keyLen))
		if err != nil {
			return err
		}
		b.item(data[k.keyAt:k.keyAt+k.keyLen], scanItem{size: k.size})
	}
	return nil
}

// emitSmall hands over as many groups as one batch may hold, and returns the
// first one that is left. A batch is larger than others rather than that the
// entries are gone through several times.
func (sc *scanner) emitSmall(data []byte, first int) (next int, err error) {
	b, err := sc.room(int(sc.groups[first].keyLen) + int(sc.groups[first].size))
	if err != nil {
		return 0, err
	}
	at := len(b.data)
	for next = first; next < len(sc.groups); next++ {
		k := &sc.groups[next]
		if k.skip || !k.exists {
			continue
		}
		full := len(b.items) > 0 && len(b.keys)+int(k.keyLen)+at+int(k.size) > 3*sc.batchBytes
		if k.hasBlob || full || len(b.items) >= maxItems {
			break
		}
		b.item(data[k.keyAt:k.keyAt+k.keyLen], scanItem{at: at, n: int(k.size), last: true})
		k.out = at
		at += int(k.size)
	}
	if cap(b.data) < at {
		size := sc.batchBytes
		if at > size {
			size = 3 * sc.batchBytes // at once what it may need at most
		}
		b.data = append(make([]byte, 0, max(at, size)), b.data...)
	}
	b.data = b.data[:at]
	end := uint32(next)
	return next, sc.each(data, func(from int, list []grouped) error {
		out, groups := b.data, sc.groups[:end]
		for i := range list {
			e := &list[i]
			if e.group < uint32(first) || e.group >= end {
				continue
			}
			k := &groups[e.group]
			if !k.skip && k.exists && uint32(from+i) >= k.from {
				k.out += copy(out[k.out:], data[e.at:e.at+e.n])
			}
		}
		return nil
	})
}

func (sc *scanner) emitLarge(data []byte, index int) error {
	k := &sc.groups[index]
	key := data[k.keyAt : k.keyAt+k.keyLen]
	if err := sc.begin(key); err != nil {
		return err
	}
	err := sc.each(data, func(from int, list []grouped) error {
		for i := range list {
			e := &list[i]
			if int(e.group) != index || uint32(from+i) < k.from {
				continue
			}
			value := data[e.at : e.at+e.n]
			if e.blob {
				if err := sc.emitBlob(key, value); err != nil {
					return err
				}
			} else if err := sc.bytes(value); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		sc.end()
	}
	return err
}

func (sc *scanner) emitBlob(key, encoded []byte) error {
	var piece pieceHasher
	piece.start(key)
	err := sc.v.files.eachBlock(encoded, func(b []byte) error {
		piece.write(b)
		return sc.bytes(b)
	})
	if err == nil {
		piece.addTo(&sc.ledger)
	}
	return err
}

// accountUnseen reads, for the ledger, the large values that will not be
// handed over from here.
func (sc *scanner) accountUnseen(data []byte) error {
	if sc.blobs == 0 {
		return nil
	}
	return sc.each(data, func(from int, list []grouped) error {
		for i := range list {
			e := &list[i]
			k := &sc.groups[e.group]
			if !e.blob || k.exists && !k.skip && uint32(from+i) >= k.from {
				continue
			}
			blob := segment.Entry{Kind: segment.KindBlob, Key: data[k.keyAt : k.keyAt+k.keyLen], Value: data[e.at : e.at+e.n]}
			if err := sc.v.files.accountAll(&sc.ledger, &blob); err != nil {
				return err
			}
		}
		return nil
	})
}
