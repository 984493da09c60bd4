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

// hotKeys returns the hot keys of a part.
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

// add counts one more entry of the key.
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

// errEnough ends counting.
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
