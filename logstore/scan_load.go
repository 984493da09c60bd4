package logstore

import (
	"context"
	"errors"
	"io"
	"math"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// intervals goes through all ranges, as many at a time as are grouped well in
// the processor's cache.
func (sc *scanner) intervals() error {
	return together(1<<sc.bits, sc.partitionSize, int64(sc.batchBytes), func(first, end int, size int64) error {
		lo, hi := segment.Bounds(first, end, sc.bits)
		return sc.interval(lo, hi, size)
	})
}

// partitionSize returns about how many bytes of entries a partition holds, those
// of hot keys left out. A range that is wider is taken to spread evenly.
// Where it does not, loading ends at the limit.
func (sc *scanner) partitionSize(p int) int64 {
	var n int64
	hash, _ := segment.Bounds(p, p+1, sc.bits)
	for _, g := range sc.v.segments {
		i := g.RangeOf(hash)
		size := int64(g.Off[i+1] - g.Off[i])
		if g.Raw != nil {
			size = int64(g.Raw[i])
		}
		n += size >> (sc.bits - g.Bits)
	}
	for i := range sc.v.tables {
		t := &sc.v.tables[i]
		n += int64(t.at(hash).size) >> (sc.bits - t.t.bits)
	}
	return n
}

// interval hands over all keys whose hashes are in an interval.
func (sc *scanner) interval(lo, hi uint64, size int64) error {
	if sc.ctx.Err() != nil {
		return context.Cause(sc.ctx)
	}
	select {
	case <-sc.stop:
		return errStopped
	default:
	}
	sc.findStreamed(lo, hi)
	var err error
	if size > sc.limit {
		err = sc.divide(lo, hi, 0)
	} else if err = sc.loadAndGroup(lo, hi, false); err == errTooMuch {
		err = sc.divide(lo, hi, 0)
	}
	if err != nil {
		return err
	}
	return sc.emitStreamed()
}

// findStreamed finds the keys that have a run of their own in some segment.
// They are read by themselves, whatever other segments hold of them.
func (sc *scanner) findStreamed(lo, hi uint64) {
	sc.streamed = nil
	for _, g := range sc.v.segments {
		hot := g.HotIn(lo, hi)
		for i := range hot {
			if sc.streamed == nil {
				sc.streamed = map[string]uint64{}
			}
			sc.streamed[string(hot[i].Key)] = hot[i].Hash
		}
	}
}

// source returns the entries of a source whose hashes are in an interval, and
// perhaps others: exact reports that there are none.
func (sc *scanner) source(i int, lo, hi uint64) (src segment.Source, exact bool) {
	if i >= len(sc.v.segments) {
		t := &sc.v.tables[i-len(sc.v.segments)]
		var blocks [][]byte
		for p := segment.Range(lo, t.t.bits); p <= segment.Range(hi, t.t.bits); p++ {
			blocks = append(blocks, t.t.blocksOf(t.parts[p-t.base])...)
		}
		return &segment.Slices{Blocks: blocks}, aligned(lo, hi, t.t.bits)
	}
	g := sc.v.segments[i]
	return g.ranges(&sc.run, lo, hi), aligned(lo, hi, g.Bits)
}

// aligned reports whether an interval consists of whole ranges.
func aligned(lo, hi uint64, bits uint8) bool {
	rest := uint64(math.MaxUint64) >> bits
	return lo&rest == 0 && hi&rest == rest
}

// errTooMuch says that an interval holds more than may be loaded.
var errTooMuch = errors.New("more than may be loaded")

// loadAndGroup loads an interval and hands its groups over. With errTooMuch,
// nothing was handed over or charged to the ledger; that does not happen with
// filter, before which the entries were counted.
func (sc *scanner) loadAndGroup(lo, hi uint64, filter bool) error {
	if sc.arenas[0] == nil {
		var err error
		if sc.arenas[0], err = offheap.Allocate(int(sc.limit)); err != nil {
			return err
		}
	}
	sc.raw = sc.arenas[0][:0]
	for i := range sc.v.sources() {
		src, exact := sc.source(i, lo, hi)
		var err error
		if exact && !filter {
			err = sc.loadAll(src)
		} else {
			err = sc.loadSome(src, lo, hi, filter)
		}
		if err == errTooMuch {
			return err
		}
		if err != nil {
			return sc.v.runError(i, err)
		}
	}
	if len(sc.raw) <= 2*sc.batchBytes || sc.fewKeys() {
		if err := sc.emitGroups(sc.raw, false); err != errTooMuch {
			return err
		}
	}
	return sc.split()
}

func (sc *scanner) loadAll(src segment.Source) error {
	for {
		b, err := src.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sc.load(b); err != nil {
			return err
		}
	}
}

// loadSome loads the entries that belong to an interval, without streamed keys
// if asked.
func (sc *scanner) loadSome(src segment.Source, lo, hi uint64, noStreamed bool) error {
	return sc.eachIn(src, lo, hi, func(e *segment.Entry, _ uint64) error {
		if noStreamed && len(sc.streamed) > 0 {
			if _, ok := sc.streamed[string(e.Key)]; ok {
				return sc.account(e)
			}
		}
		return sc.load(e.Raw)
	})
}

// load adds whole entries, or parts of them, to what is loaded.
func (sc *scanner) load(b []byte) error {
	if int64(len(sc.raw))+int64(len(b)) > sc.limit {
		return errTooMuch
	}
	sc.raw = append(sc.raw, b...)
	return nil
}

// eachIn calls f for each entry whose hash is in an interval.
func (sc *scanner) eachIn(src segment.Source, lo, hi uint64, f func(e *segment.Entry, hash uint64) error) error {
	return segment.EachEntry(src, func(e *segment.Entry) error {
		if h := sc.s.format.HashBytes(e.Key); h >= lo && h <= hi {
			return f(e, h)
		}
		return nil
	})
}

// account charges the ledger with an entry that is not grouped.
func (sc *scanner) account(e *segment.Entry) error {
	if sc.keysOnly {
		return nil
	}
	return sc.v.files.accountAll(&sc.ledger, e)
}
