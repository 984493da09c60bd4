package logstore

import (
	"io"
	"maps"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// fewKeys reports whether what is loaded begins with so few keys that dividing
// it would not help: their values are long and copied one after the other.
func (sc *scanner) fewKeys() bool {
	const sample, few = 64 << 10, 32
	var seen [few]uint64
	n := 0
	for at := 0; at < min(len(sc.raw), sample); {
		e, err := segment.ParseEntry(sc.raw[at:])
		if err != nil {
			return false // split will tell
		}
		at += len(e.Raw)
		h := sc.s.format.HashBytes(e.Key)
		if slices.Contains(seen[:n], h) {
			continue
		}
		if n == few {
			return false
		}
		seen[n] = h
		n++
	}
	return true
}

// split divides what is loaded by hash into parts that are grouped in cache.
func (sc *scanner) split() error {
	if sc.arenas[1] == nil {
		var err error
		if sc.arenas[1], err = offheap.Allocate(int(sc.limit)); err != nil {
			return err
		}
	}
	spare := sc.arenas[1] // as large as the one that was loaded into
	n := 0
	for at := 0; at < len(sc.raw); n++ {
		e, _, err := sc.parse(sc.raw, at)
		if err != nil {
			return err
		}
		at += len(e.Raw)
	}
	// Keys that are the same cannot be divided, but are few: see groupData.
	shift := 64 - bits.Len(uint(max(len(sc.raw)/sc.batchBytes, 2*n/sc.maxGrouped())))
	starts, err := scatter(spare, sc.raw, 1<<(64-shift), func(key []byte) int {
		return int(sc.s.format.HashBytes(key) * 0xD6E8FEB86659FD93 >> shift)
	})
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(starts); i++ {
		if err := sc.emitGroups(spare[starts[i]:starts[i+1]], true); err != nil {
			return err
		}
	}
	return nil
}

// scatter copies entries to dst, by place, in order within each, and returns
// where each place begins, and where the last ends.
func scatter(dst, entries []byte, places int, place func(key []byte) int) (starts []int, err error) {
	pos := make([]int, places+1)
	for at := 0; at < len(entries); {
		e, err := segment.ParseEntry(entries[at:])
		if err != nil {
			return nil, err
		}
		pos[place(e.Key)+1] += len(e.Raw)
		at += len(e.Raw)
	}
	for i := 1; i < len(pos); i++ {
		pos[i] += pos[i-1]
	}
	starts = slices.Clone(pos)
	for at := 0; at < len(entries); {
		e, err := segment.ParseEntry(entries[at:])
		if err != nil {
			return nil, err
		}
		p := place(e.Key)
		pos[p] += copy(dst[pos[p]:], e.Raw)
		at += len(e.Raw)
	}
	return starts, nil
}

// emitStreamed hands over the keys of the interval that have runs of their own.
func (sc *scanner) emitStreamed() error {
	for _, k := range slices.Sorted(maps.Keys(sc.streamed)) {
		if err := sc.emitKey([]byte(k), sc.streamed[k], &sc.ledger); err != nil {
			return err
		}
	}
	return nil
}

// emitKey hands over one key, which is read by itself.
func (sc *scanner) emitKey(key []byte, hash uint64, ledger *Ledger) error {
	if sc.keysOnly {
		return sc.emitSize(key, hash)
	}
	k, err := sc.v.newKeyStream(key, hash, ledger)
	if err != nil {
		return err
	}
	if err := sc.begin(key); err != nil {
		return err
	}
	for {
		b, err := k.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = sc.bytes(b)
		}
		if err != nil {
			return err
		}
	}
	if k.exists {
		sc.end()
	}
	return nil
}
