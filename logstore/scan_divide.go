package logstore

import (
	"bytes"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// divide hands over an interval that is too large to be loaded: it counts what
// each of its parts holds, and goes on with parts that are small enough.
func (sc *scanner) divide(lo, hi uint64, depth int) error {
	const parts = 1024
	width := (hi-lo)/parts + 1
	if lo == hi || depth > 8 {
		return sc.heavy(lo, hi)
	}
	var sizes [parts]int64
	for i := range sc.v.sources() {
		src, _ := sc.source(i, lo, hi)
		err := sc.eachIn(src, lo, hi, func(e *segment.Entry, h uint64) error {
			if len(sc.streamed) > 0 {
				if _, ok := sc.streamed[string(e.Key)]; ok {
					return nil
				}
			}
			sizes[(h-lo)/width] += int64(len(e.Raw))
			return nil
		})
		if err != nil {
			return sc.v.runError(i, err)
		}
	}
	for first := 0; first < parts; {
		next, size := first+1, sizes[first]
		for next < parts && size+sizes[next] <= sc.limit {
			size += sizes[next]
			next++
		}
		from, to := lo+uint64(first)*width, lo+uint64(next)*width-1
		if from > hi || from < lo { // the width was rounded up
			break
		}
		if to > hi || to < from {
			to = hi
		}
		var err error
		if size > sc.limit {
			err = sc.divide(from, to, depth+1)
		} else {
			err = sc.loadAndGroup(from, to, true)
		}
		if err != nil {
			return err
		}
		if to == hi {
			break
		}
		first = next
	}
	return nil
}

// heavy hands over keys that are so large, and so close in hash, that they are
// read one at a time. Mostly it is one.
func (sc *scanner) heavy(lo, hi uint64) error {
	var after []byte
	for first := true; ; first = false {
		keys, more, err := sc.keysIn(lo, hi, after, first)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := sc.emitKey(k, sc.s.format.HashBytes(k), nil); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		after = keys[len(keys)-1]
	}
}

// keysIn returns the first keys of an interval after a key, in order, and
// whether there are more. The first time, it charges the ledger.
func (sc *scanner) keysIn(lo, hi uint64, after []byte, first bool) (keys [][]byte, more bool, err error) {
	found := map[string]bool{}
	var size int64
	var limit []byte // keys from here on do not fit
	shorten := func() {
		keys = keys[:0]
		for k := range found {
			keys = append(keys, []byte(k))
		}
		slices.SortFunc(keys, bytes.Compare)
		if size > sc.limit && len(keys) > 1 {
			keys = keys[:len(keys)/2]
			limit = keys[len(keys)-1]
			clear(found)
			size = 0
			for _, k := range keys {
				found[string(k)] = true
				size += int64(len(k)) + 64
			}
		}
	}
	for i := range sc.v.sources() {
		src, _ := sc.source(i, lo, hi)
		err := sc.eachIn(src, lo, hi, func(e *segment.Entry, _ uint64) error {
			_, streamed := sc.streamed[string(e.Key)]
			if first {
				// Streamed keys were left out so far, those here, too.
				if err := sc.account(e); err != nil {
					return err
				}
			}
			if streamed || !first && bytes.Compare(e.Key, after) <= 0 || found[string(e.Key)] {
				return nil
			}
			if limit != nil && bytes.Compare(e.Key, limit) > 0 {
				return nil
			}
			found[string(e.Key)] = true
			if size += int64(len(e.Key)) + 64; size > sc.limit {
				shorten()
			}
			return nil
		})
		if err != nil {
			return nil, false, sc.v.runError(i, err)
		}
	}
	shorten()
	return keys, limit != nil, nil
}

// emitSize hands over a key without its value. Runs of its own need not be
// read: the footer knows.
func (sc *scanner) emitSize(key []byte, hash uint64) error {
	var size int64
	exists := false
	for i := range sc.v.sources() {
		src, hot := sc.v.keySource(i, hash, key, &sc.run)
		if hot != nil {
			if hot.Reset {
				size = 0
			}
			size += hot.Bytes
			exists = !hot.Gone
			continue
		}
		err := segment.EachEntry(src, func(e *segment.Entry) error {
			if !bytes.Equal(e.Key, key) {
				return nil
			}
			n, err := e.ValueLen()
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				size = 0
			}
			size += n
			exists = e.Kind != segment.KindDelete
			return err
		})
		if err != nil {
			return sc.v.runError(i, err)
		}
	}
	if !exists {
		return nil
	}
	b, err := sc.room(len(key))
	if err != nil {
		return err
	}
	b.item(key, scanItem{size: size})
	return nil
}
