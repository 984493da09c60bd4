package logstore

import (
	"cmp"
	"context"
	"io"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// get reports for each key whether it exists and, if withValues is set, also returns the values. It
// does not release mu, so that the caller can write a change that depends on the result. mu must be
// held.
func (vs *views) get(ctx context.Context, keys []string, withValues bool) ([][]byte, []bool, error) {
	v, err := vs.viewOfRange(0, math.MaxUint64)
	if err != nil {
		return nil, nil, err
	}
	exists := make([]bool, len(keys))
	var result [][]byte
	if withValues {
		result = make([][]byte, len(keys))
	}
	err = v.get(ctx, keys, result, exists)
	return result, exists, cmp.Or(err, v.release())
}

const maxGroup = 4 << 10 // maximum number of keys that are looked up together

type keyRef struct {
	hash  uint64
	index int
}

type lookup struct {
	key      string
	hash     uint64
	value    []byte
	exists   bool
	returned bool // value is already in the result, for another occurrence of the key
}

// get fills values and exists like lookUp. It looks up the keys in groups, one range of hashes at
// a time, so that a request for many absent keys needs little memory.
func (v *view) get(ctx context.Context, keys []string, values [][]byte, exists []bool) error {
	refs := make([]keyRef, len(keys))
	for i, k := range keys {
		refs[i] = keyRef{v.views.format.Hash(k), i}
	}
	slices.SortFunc(refs, func(a, b keyRef) int { return cmp.Compare(a.hash, b.hash) })
	bits := v.finestBits()
	g := &getter{v: v, withValues: values != nil, shift: 64 - bits}
	groups := int64(0)
	for len(refs) > 0 {
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		n := 1
		for n < min(len(refs), maxGroup) && refs[n].hash>>(64-bits) == refs[0].hash>>(64-bits) {
			n++
		}
		if err := g.readGroup(keys, refs[:n]); err != nil {
			return err
		}
		for _, ref := range refs[:n] {
			l := &g.single
			if n > 1 {
				l = g.byKey[keys[ref.index]]
			}
			if exists != nil {
				exists[ref.index] = l.exists
			}
			if values != nil {
				values[ref.index] = l.value
				// Returned values must not share memory. So copy the value if it is already returned
				// for another occurrence of the key, or if it is in shortBuf.
				if l.returned || l.value == nil || cap(l.value) == len(g.shortBuf) {
					values[ref.index] = append([]byte{}, l.value...)
				}
				l.returned = true
			}
		}
		refs = refs[n:]
		groups++
	}
	if len(v.segments) > 1 {
		// Bytes that a lookup in a single segment would not have read count as wasted.
		useful := readCost + max(mergedRange, sizeOf(v.segments)>>maxBits)
		if wasted := g.cost - groups*useful; wasted > 0 {
			v.views.segments.wasted.Add(wasted)
		}
	}
	return nil
}

type getter struct {
	v          *view
	single     lookup             // the range's only requested key
	byKey      map[string]*lookup // the range's requested keys, if there are several
	withValues bool
	shift      uint8  // hash >> shift is the number of a hash's range
	prefix     uint64 // number of the current range
	cost       int64  // bytes read from segments, plus readCost for each read
	run        segment.Reader
	er         segment.EntryReader
	shortBuf   [512]byte // initial buffer of single.value; a value that fits into it is copied for the caller
}

// readGroup looks up the keys of refs, which must be in one range.
func (g *getter) readGroup(keys []string, refs []keyRef) error {
	g.prefix = refs[0].hash >> g.shift
	lookups := make([]*lookup, 0, len(refs))
	if len(refs) == 1 {
		g.single = lookup{key: keys[refs[0].index], hash: refs[0].hash, value: g.shortBuf[:0]}
		lookups = append(lookups, &g.single)
	} else {
		lookups = g.indexKeys(keys, refs, lookups)
	}
	for i := range g.v.sourceCount() {
		readRange := false
		for _, l := range lookups {
			hot := g.v.findHotRun(i, l.hash, []byte(l.key))
			if hot == nil {
				readRange = true
				continue
			}
			g.cost += readCost
			if err := g.read(g.v.segments[i].openHotRun(&g.run, hot), l, nil); err != nil {
				return g.v.locateError(i, err)
			}
		}
		if !readRange {
			continue
		}
		g.cost += g.v.rangeCost(i, lookups[0].hash)
		src := g.v.rangeSource(i, lookups[0].hash, &g.run)
		var single *lookup
		if len(lookups) == 1 {
			single = lookups[0]
		}
		if err := g.read(src, single, g.byKey); err != nil {
			return g.v.locateError(i, err)
		}
	}
	return nil
}

func (g *getter) indexKeys(keys []string, refs []keyRef, lookups []*lookup) []*lookup {
	if g.byKey == nil {
		g.byKey = make(map[string]*lookup, len(refs))
	}
	clear(g.byKey)
	for _, ref := range refs {
		if k := keys[ref.index]; g.byKey[k] == nil {
			l := &lookup{key: k, hash: ref.hash}
			g.byKey[k] = l
			lookups = append(lookups, l)
		}
	}
	return lookups
}

func (v *view) rangeCost(source int, hash uint64) int64 {
	if source >= len(v.segments) {
		return 0
	}
	size := v.segments[source].rangesLen(hash, hash)
	if size == 0 {
		return 0
	}
	return readCost + size
}

// read applies src's entries to single or, if single is nil, to the lookups in byKey.
func (g *getter) read(src segment.Source, single *lookup, byKey map[string]*lookup) error {
	g.er.Reset(src)
	for {
		e, err := g.er.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		l := single
		if single != nil {
			if string(e.Key) != single.key {
				continue
			}
		} else {
			l = byKey[string(e.Key)]
			if l == nil || l.hash>>g.shift != g.prefix {
				continue // another key, perhaps from a wider range of this source
			}
		}
		if err := g.apply(l, &e); err != nil {
			return err
		}
	}
}

func (g *getter) apply(l *lookup, e *segment.Entry) error {
	l.exists = e.Kind != segment.KindDelete
	switch e.Kind {
	case segment.KindSet, segment.KindDelete:
		l.value = l.value[:0]
	case segment.KindBlob:
		if !g.withValues {
			return nil
		}
		var err error
		l.value, err = g.v.appendBlob(l.value, e.Value)
		return err
	}
	if g.withValues {
		l.value = append(l.value, e.Value...)
	}
	return nil
}
