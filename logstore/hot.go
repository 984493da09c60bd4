package logstore

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// A hot key is one that takes a good part of a table. Its entries get a run of
// their own in the segment, so that they can be read without any others'.

const (
	maxHotPerPart = 16
	hotSample     = 8 << 10 // bytes of a part that are looked at first
)

func isHot(keys []segment.HotRun, key []byte) bool {
	for i := range keys {
		if bytes.Equal(keys[i].Key, key) {
			return true
		}
	}
	return false
}

func (k *sealer) hotKeys(t *table, p int) ([]segment.HotRun, error) {
	size := int64(t.parts[p].size)
	minBytes := t.hotBytes()
	if size < minBytes || k.segments.manyHot.Load() {
		return nil, nil
	}
	// A look at the beginning is enough for most: hardly any part of a store
	// with many keys has a hot one. A part that is large for this table is
	// counted in any case.
	blocks := t.blocksOf(t.parts[p])
	if size < int64(len(t.arena))/64 {
		sizes, sampled, err := countKeys(&segment.Slices{Blocks: blocks}, hotSample)
		if err != nil {
			return nil, err
		}
		promising := false
		for _, k := range sizes {
			promising = promising || k.encoded*size >= minBytes*sampled/4*3
		}
		if !promising {
			return nil, nil
		}
	}
	sizes, _, err := countKeys(&segment.Slices{Blocks: blocks}, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	var hot []segment.HotRun
	for key, n := range sizes {
		if n.encoded >= minBytes && len(key) <= segment.MaxHotKey {
			hot = append(hot, segment.HotRun{Hash: k.catalog.format.Hash(key), Key: []byte(key), Bytes: n.bytes, Reset: n.reset, Gone: n.gone})
		}
	}
	slices.SortFunc(hot, func(a, b segment.HotRun) int {
		return cmp.Compare(sizes[string(b.Key)].encoded, sizes[string(a.Key)].encoded)
	})
	return hot[:min(len(hot), maxHotPerPart)], nil
}

// hotBytes is the least that a hot key takes of a table.
func (t *table) hotBytes() int64 { return max(int64(len(t.arena))/512, 4<<10) }

// keySize is what a stream of entries does to a key.
type keySize struct {
	encoded int64 // bytes of its entries
	bytes   int64 // length of the value that they make
	reset   bool  // what came before the stream is replaced or gone
	gone    bool  // what is left is no key
}

func (k *keySize) add(e *segment.Entry) error {
	n, err := e.ValueLen()
	if err != nil {
		return err
	}
	if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
		k.bytes, k.reset = 0, true
	}
	k.gone = e.Kind == segment.KindDelete
	k.bytes += n
	k.encoded += int64(len(e.Raw))
	return nil
}

var errEnough = errors.New("enough entries were counted")

// countKeys reads entries up to a number of bytes.
func countKeys(src segment.Source, limit int64) (sizes map[string]*keySize, total int64, err error) {
	sizes = map[string]*keySize{}
	err = segment.EachEntry(src, func(e *segment.Entry) error {
		if total >= limit {
			return errEnough
		}
		k := sizes[string(e.Key)]
		if k == nil {
			k = &keySize{}
			sizes[string(e.Key)] = k
		}
		total += int64(len(e.Raw))
		return k.add(e)
	})
	if err == errEnough {
		err = nil
	}
	return sizes, total, err
}

// chooseHot decides which keys get runs of their own: those that have, unless
// they are small beside all the rest.
func (j *mergeJob) chooseHot() {
	sizes := map[string]int64{}
	j.hot = j.hot[:0]
	for _, g := range j.inputs() {
		for i := range g.Hot {
			h := &g.Hot[i]
			n := sizes[string(h.Key)]
			if n >= 0 && n+int64(h.Len) >= j.hotBytes() {
				j.hot = append(j.hot, segment.HotRun{Hash: h.Hash, Key: h.Key})
				n = math.MinInt64
			}
			sizes[string(h.Key)] = n + int64(h.Len)
		}
	}
	slices.SortFunc(j.hot, segment.CompareHot)
}

// hotBytes is the least that a hot key takes of what is merged.
func (j *mergeJob) hotBytes() int64 { return max(j.inputBytes/2048, 4<<10) }

// findHot reports whether a key is in a list in order.
func findHot(list []segment.HotRun, hash uint64, key []byte) bool {
	if len(list) == 0 {
		return false
	}
	_, found := slices.BinarySearchFunc(list, segment.HotRun{Hash: hash, Key: key}, segment.CompareHot)
	return found
}

// findHeavy makes hot what takes a good part of an interval: many small
// segments can have a hot key that is hot in none. It counts as Misra and Gries
// did, in little memory whatever the number of keys.
func (j *mergeJob) findHeavy(lo, hi uint64) error {
	type count struct {
		key   []byte
		hash  uint64
		bytes int64
	}
	const maxCounts = 16
	var counts []count
	var sum int64
	err := j.eachIn(j.first, j.end, lo, hi, func(e *segment.Entry) error {
		n := int64(len(e.Raw))
		sum += n
		if len(e.Key) > segment.MaxHotKey {
			return nil
		}
		smallest := n
		for i := range counts {
			if string(counts[i].key) == string(e.Key) {
				counts[i].bytes += n
				return nil
			}
			smallest = min(smallest, counts[i].bytes)
		}
		if len(counts) == maxCounts {
			for i := range counts {
				counts[i].bytes -= smallest
			}
			n -= smallest
			counts = slices.DeleteFunc(counts, func(c count) bool { return c.bytes == 0 })
		}
		if n > 0 {
			counts = append(counts, count{slices.Clone(e.Key), j.s.format.HashBytes(e.Key), n})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range counts {
		if c.bytes >= max(j.hotBytes(), sum/32) {
			j.hot = append(j.hot, segment.HotRun{Hash: c.hash, Key: c.key})
		}
	}
	slices.SortFunc(j.hot, segment.CompareHot)
	return nil
}
