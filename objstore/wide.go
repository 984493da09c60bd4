package objstore

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// A hash range that does not fit in memory is read several times. The first pass divides the range
// into equal subintervals and measures them. Each further pass loads adjacent subintervals that
// together fit in memory. A key that does not fit is streamed to the consumer.

// source is a function that calls f for the entries in an interval of hashes, in log order. number
// is the index of the entry's segment in the view.
type source func(ctx context.Context, iv interval, f entryFunc) error

type entryFunc func(number int, e *segment.Entry, hash uint64) error

// eachEntry is a source that reads all segments in the bucket.
func (sc *scanner) eachEntry(ctx context.Context, iv interval, f entryFunc) error {
	for i := range sc.view.segments {
		if err := sc.eachEntryOf(ctx, i, iv, f); err != nil {
			return err
		}
	}
	return nil
}

func (sc *scanner) eachEntryOf(ctx context.Context, i int, iv interval, f entryFunc) error {
	g := sc.view.segments[i]
	first, end := g.rangesOf(iv)
	return sc.view.stream(ctx, g, first, end, func(e *segment.Entry) error {
		if hash := sc.groups.format.HashBytes(e.Key); iv.contains(hash) {
			return f(i, e, hash)
		}
		return nil
	})
}

// subinterval describes the entries in a part of an interval.
type subinterval struct {
	key          []byte // the first key
	hasOtherKeys bool
	weight       int64 // memory to load and group the entries
	bytes        int64 // size of the entries
}

const subintervals = 256

// scanWide yields the keys of an interval that does not fit in memory.
func (sc *scanner) scanWide(ctx context.Context, src source, iv interval) error {
	step := (iv.hi-iv.lo)/subintervals + 1
	var subs [subintervals]subinterval
	err := src(ctx, iv, func(_ int, e *segment.Entry, hash uint64) error {
		d := &subs[(hash-iv.lo)/step]
		switch {
		case d.weight == 0:
			d.key = bytes.Clone(e.Key)
		case !d.hasOtherKeys:
			d.hasOtherKeys = !bytes.Equal(d.key, e.Key)
		}
		d.bytes += int64(len(e.Raw))
		d.weight += int64(len(e.Raw)) + entryOverhead
		return nil
	})
	if err != nil {
		return err
	}
	for i := 0; i < subintervals; {
		sub := interval{iv.lo + uint64(i)*step, iv.lo + uint64(i)*step}
		var weight, size int64
		first := i
		for ; i < subintervals && (i == first || weight+subs[i].weight <= sc.budget); i++ {
			weight, size = weight+subs[i].weight, size+subs[i].bytes
			sub.hi = iv.lo + min(uint64(i)*step+step-1, iv.hi-iv.lo)
		}
		d := &subs[first]
		switch {
		case weight == 0:
		case weight <= sc.budget:
			err = sc.loadAndYield(ctx, src, sub, size)
		case !d.hasOtherKeys:
			err = sc.streamKey(ctx, src, d.key, sc.yield)
		case sub.lo < sub.hi:
			err = sc.scanWide(ctx, src, sub)
		default:
			err = sc.emitHash(ctx, src, sub)
		}
		if err != nil {
			return err
		}
		if sub.hi == iv.hi {
			break
		}
	}
	return nil
}

// loadAndYield loads an interval that fits in memory and yields its keys.
func (sc *scanner) loadAndYield(ctx context.Context, src source, iv interval, size int64) error {
	l := &loadedInterval{interval: iv, arena: make([]byte, 0, size)}
	err := src(ctx, iv, func(number int, e *segment.Entry, _ uint64) error {
		if n := len(l.sections); n == 0 || l.sections[n-1].segment != int32(number) {
			l.sections = append(l.sections, section{segment: int32(number), offset: uint32(len(l.arena))})
		}
		l.arena = append(l.arena, e.Raw...)
		sec := &l.sections[len(l.sections)-1]
		sec.entries = l.arena[sec.offset:]
		return nil
	})
	if err != nil {
		return err
	}
	return sc.emit(ctx, l)
}

// emitHash yields the keys of iv, which all have the same hash and together do not fit in memory.
func (sc *scanner) emitHash(ctx context.Context, src source, iv interval) error {
	keys := map[string]bool{}
	err := src(ctx, iv, func(_ int, e *segment.Entry, _ uint64) error {
		keys[string(e.Key)] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := sc.streamKey(ctx, src, []byte(key), sc.yield); err != nil {
			return err
		}
	}
	return nil
}

// streamKey yields the value of one key without loading all of it. A first pass over src finds the
// key's last Set or Delete, where the value begins, and a second pass yields the value.
func (sc *scanner) streamKey(ctx context.Context, src source, key []byte, yield func(partd.Chunk, error) bool) error {
	hash := sc.groups.format.HashBytes(key)
	iv := interval{hash, hash}
	var k group
	var count, firstIndex int // number of the key's entries, and index of the first live entry
	skipped := map[int]bool{}
	eachEntry := func(f func(number int, e *segment.Entry) error) error {
		return src(ctx, iv, func(number int, e *segment.Entry, _ uint64) error {
			if !bytes.Equal(e.Key, key) {
				return nil
			}
			return f(number, e)
		})
	}
	var groupState groups
	err := eachEntry(func(number int, e *segment.Entry) error {
		sc.streamedLedger.AddEntry(e.Kind, e.Raw[e.HashStart:], len(e.Value))
		// Update k as for a loaded entry, but keep no references to entries.
		groupState.refs = groupState.refs[:0]
		k.firstRef, k.lastRef = 0, 0
		groupState.apply(&k, e.Kind, 0, int64(len(e.Value)), sc.view.segments[number].onlySetsNewKeys, int32(number+1))
		if k.skippedSegment == int32(number+1) {
			skipped[number] = true
		} else if e.Kind != segment.KindAppend {
			firstIndex = count
		}
		count++
		return nil
	})
	if err != nil || !k.exists {
		return err
	}
	c := chunker{key: string(key), yield: yield}
	count = 0
	err = eachEntry(func(number int, e *segment.Entry) error {
		count++
		if count <= firstIndex || skipped[number] || e.Kind == segment.KindDelete {
			return nil
		}
		if !c.add(e.Value) {
			return errStop
		}
		return nil
	})
	if err == nil && !c.emit(true) {
		err = errStop
	}
	return err
}
