package objstore

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// What is in one range and does not fit in memory is read several times: first to
// count what each part of its hashes holds, then those parts that fit together in
// memory, then each key that does not, straight to who reads.

// source calls f for the entries of an interval, in the order of the log, each with
// the number of its segment in the view.
type source func(ctx context.Context, iv interval, f func(number int, e *segment.Entry, hash uint64) error) error

// each is the source that reads the bucket.
func (sc *scanner) each(ctx context.Context, iv interval, f func(number int, e *segment.Entry, hash uint64) error) error {
	for i := range sc.view.segments {
		if err := sc.eachOf(ctx, i, iv, f); err != nil {
			return err
		}
	}
	return nil
}

// eachOf does so for one segment.
func (sc *scanner) eachOf(ctx context.Context, i int, iv interval, f func(number int, e *segment.Entry, hash uint64) error) error {
	g := sc.view.segments[i]
	first, end := g.rangesOf(iv)
	return sc.store.stream(ctx, sc.view, g, first, end, func(e *segment.Entry) error {
		if hash := sc.store.format.HashBytes(e.Key); iv.has(hash) {
			return f(i, e, hash)
		}
		return nil
	})
}

// division is one of the parts of an interval.
type division struct {
	key     []byte // the first one
	several bool   // there are others
	weight  int64
	bytes   int64
}

const divisions = 256

func (sc *scanner) scanWide(ctx context.Context, from source, iv interval) error {
	step := (iv.hi-iv.lo)/divisions + 1
	var ds [divisions]division
	err := from(ctx, iv, func(_ int, e *segment.Entry, hash uint64) error {
		d := &ds[(hash-iv.lo)/step]
		switch {
		case d.weight == 0:
			d.key = bytes.Clone(e.Key)
		case !d.several:
			d.several = !bytes.Equal(d.key, e.Key)
		}
		d.bytes += int64(len(e.Raw))
		d.weight += int64(len(e.Raw)) + perEntry
		return nil
	})
	if err != nil {
		return err
	}
	for i := 0; i < divisions; {
		part := interval{iv.lo + uint64(i)*step, iv.lo + uint64(i)*step}
		var weight, size int64
		first := i
		for ; i < divisions && (i == first || weight+ds[i].weight <= sc.budget); i++ {
			weight, size = weight+ds[i].weight, size+ds[i].bytes
			part.hi = iv.lo + min(uint64(i)*step+step-1, iv.hi-iv.lo)
		}
		d := &ds[first]
		switch {
		case weight == 0:
		case weight <= sc.budget:
			err = sc.collect(ctx, from, part, size)
		case !d.several:
			err = sc.streamKey(ctx, from, d.key, sc.yield)
		case part.lo < part.hi:
			err = sc.scanWide(ctx, from, part)
		default:
			err = sc.sameHash(ctx, from, part)
		}
		if err != nil {
			return err
		}
		if part.hi == iv.hi {
			break
		}
	}
	return nil
}

// collect groups a part that fits in memory, and yields it.
func (sc *scanner) collect(ctx context.Context, from source, iv interval, size int64) error {
	l := &loaded{interval: iv, arena: make([]byte, 0, size)}
	err := from(ctx, iv, func(number int, e *segment.Entry, _ uint64) error {
		if n := len(l.sections); n == 0 || l.sections[n-1].segment != int32(number) {
			l.sections = append(l.sections, section{segment: int32(number), at: uint32(len(l.arena))})
		}
		l.arena = append(l.arena, e.Raw...)
		sec := &l.sections[len(l.sections)-1]
		sec.entries = l.arena[sec.at:]
		return nil
	})
	if err != nil {
		return err
	}
	return sc.emit(ctx, l)
}

// sameHash yields keys that all have one hash.
func (sc *scanner) sameHash(ctx context.Context, from source, iv interval) error {
	keys := map[string]bool{}
	err := from(ctx, iv, func(_ int, e *segment.Entry, _ uint64) error {
		keys[string(e.Key)] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := sc.streamKey(ctx, from, []byte(key), sc.yield); err != nil {
			return err
		}
	}
	return nil
}

// streamKey yields the value of one key, however long. First it looks where the value
// begins, since a set or a delete makes what is before count no more.
func (sc *scanner) streamKey(ctx context.Context, from source, key []byte, yield func(partd.Chunk, error) bool) error {
	hash := sc.store.format.HashBytes(key)
	iv := interval{hash, hash}
	var k group
	var count, begin int // entries of the key, and the number of the one that begins its value
	skipped := map[int]bool{}
	own := func(f func(number int, e *segment.Entry) error) error {
		return from(ctx, iv, func(number int, e *segment.Entry, _ uint64) error {
			if !bytes.Equal(e.Key, key) {
				return nil
			}
			return f(number, e)
		})
	}
	var state groups
	err := own(func(number int, e *segment.Entry) error {
		sc.wide.AddEntry(e.Kind, e.Raw[e.Head:], len(e.Value))
		// The group's own rules, of which the references are not kept.
		state.refs = state.refs[:0]
		k.first, k.last = 0, 0
		state.apply(&k, e.Kind, 0, int64(len(e.Value)), sc.view.segments[number].once, int32(number+1))
		if k.skip == int32(number+1) {
			skipped[number] = true
		} else if e.Kind != segment.KindAppend {
			begin = count
		}
		count++
		return nil
	})
	if err != nil || !k.exists {
		return err
	}
	c := chunker{key: string(key), yield: yield}
	count = 0
	err = own(func(number int, e *segment.Entry) error {
		if count++; count <= begin || skipped[number] || e.Kind == segment.KindDelete {
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
