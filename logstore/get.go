package logstore

import (
	"cmp"
	"context"
	"io"
	"math"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// Get returns the value of each key, in the order asked.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	if err := s.look(ctx, "get", keys, values, nil); err != nil {
		return nil, err
	}
	return values, nil
}

// HasKey reports whether the key exists.
func (s *Store) HasKey(ctx context.Context, key string) (bool, error) {
	exists := make([]bool, 1)
	err := s.look(ctx, "has", []string{key}, nil, exists)
	return err == nil && exists[0], err
}

// look reads values into got, and which keys exist into exists, each unless it is nil.
func (s *Store) look(ctx context.Context, op string, keys []string, got [][]byte, exists []bool) error {
	if err := partd.CheckKeys(op, keys); err != nil {
		return err
	}
	lo, hi := uint64(0), uint64(math.MaxUint64)
	if len(keys) == 1 {
		lo = s.format.Hash(keys[0])
		hi = lo
	}
	s.mu.Lock()
	v, err := s.viewLocked(lo, hi)
	s.mu.Unlock()
	if err != nil {
		return s.errorf(op, err)
	}
	err = v.get(ctx, keys, got, exists)
	if s.merging.wasted.Load() >= s.merging.wasteLimit.Load() {
		s.mu.Lock()
		s.considerMerge()
		s.mu.Unlock()
	}
	if e := v.close(); err == nil {
		err = e
	}
	if err == nil {
		return nil
	}
	e := &partd.Error{Op: op, Path: s.dir, Err: err}
	if len(keys) == 1 {
		e.Key, e.HasKey = keys[0], true
	}
	return e
}

// getLocked reads while nobody can append. mu is held.
func (s *Store) getLocked(ctx context.Context, keys []string, values bool) ([][]byte, []bool, error) {
	v, err := s.viewLocked(0, math.MaxUint64)
	if err != nil {
		return nil, nil, err
	}
	exists := make([]bool, len(keys))
	var got [][]byte
	if values {
		got = make([][]byte, len(keys))
	}
	err = v.get(ctx, keys, got, exists)
	if e := v.closeLocked(); err == nil {
		err = e
	}
	return got, exists, err
}

// maxGroup is of how many keys of one range as much is noted at a time.
const maxGroup = 4 << 10

// asked is a key that is asked for, and where among all.
type asked struct {
	hash uint64
	at   int
}

type wanted struct {
	key    string
	hash   uint64
	value  []byte
	exists bool
	used   bool // the value was handed over
}

// get reads the values of keys into got, and whether there are such keys into exists,
// each unless it is nil. Keys of one range are read in one go, and what is noted of
// them goes with it: of many keys that there are not, it takes little memory.
func (v *view) get(ctx context.Context, keys []string, got [][]byte, exists []bool) error {
	order := make([]asked, len(keys))
	for i, k := range keys {
		order[i] = asked{v.s.format.Hash(k), i}
	}
	slices.SortFunc(order, func(a, b asked) int { return cmp.Compare(a.hash, b.hash) })
	bits := v.bits()
	g := &getter{v: v, values: got != nil, shift: 64 - bits}
	groups := int64(0)
	for len(order) > 0 {
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		n := 1
		for n < min(len(order), maxGroup) && order[n].hash>>(64-bits) == order[0].hash>>(64-bits) {
			n++
		}
		if err := g.group(keys, order[:n]); err != nil {
			return err
		}
		for _, a := range order[:n] {
			w := &g.one
			if n > 1 {
				w = g.byKey[keys[a.at]]
			}
			if exists != nil {
				exists[a.at] = w.exists
			}
			if got != nil {
				got[a.at] = w.value
				// Values must not share memory, where a key is asked for twice either.
				if w.used || w.value == nil || cap(w.value) == len(g.short) {
					got[a.at] = append([]byte{}, w.value...)
				}
				w.used = true
			}
		}
		order = order[n:]
		groups++
	}
	if len(v.segments) > 1 {
		// What was read in vain: more than if all segments were one.
		useful := readCost + max(mergedRange, sizeOf(v.segments)>>maxBits)
		if wasted := g.cost - groups*useful; wasted > 0 {
			v.s.merging.wasted.Add(wasted)
		}
	}
	return nil
}

// bits is the number of bits that choose a range in the finest source.
func (v *view) bits() uint8 {
	var finest uint8
	for _, g := range v.segments {
		finest = max(finest, g.Bits)
	}
	for _, t := range v.tables {
		finest = max(finest, t.t.bits)
	}
	return finest
}

// getter reads keys of one range after another.
type getter struct {
	v      *view
	one    wanted             // the one of the range, where there is no other
	byKey  map[string]*wanted // those of the range, where there are several
	values bool
	shift  uint8
	prefix uint64 // hash >> shift of the keys that are being read
	cost   int64  // bytes that were read of segments, and as many as a read costs
	run    segment.Reader
	er     segment.EntryReader
	short  [512]byte // where one.value begins; what stays in it is copied for the caller
}

// group reads keys that all belong to the same range.
func (g *getter) group(keys []string, order []asked) error {
	g.prefix = order[0].hash >> g.shift
	want := make([]*wanted, 0, len(order))
	if len(order) == 1 {
		g.one = wanted{key: keys[order[0].at], hash: order[0].hash, value: g.short[:0]}
		want = append(want, &g.one)
	} else {
		want = g.severalOf(keys, order, want)
	}
	for i := range g.v.sources() {
		readRange := false
		for _, w := range want {
			hot := g.v.hotFor(i, w.hash, []byte(w.key))
			if hot == nil {
				readRange = true
				continue
			}
			g.cost += readCost
			if err := g.read(g.v.segments[i].hotRun(&g.run, hot), w, nil); err != nil {
				return g.v.runError(i, err)
			}
		}
		if !readRange {
			continue
		}
		g.cost += g.v.rangeCost(i, want[0].hash)
		src := g.v.rangeSource(i, want[0].hash, &g.run)
		var one *wanted
		if len(want) == 1 {
			one = want[0]
		}
		if err := g.read(src, one, g.byKey); err != nil {
			return g.v.runError(i, err)
		}
	}
	return nil
}

// severalOf appends the keys that are asked for, each once.
func (g *getter) severalOf(keys []string, order []asked, want []*wanted) []*wanted {
	if g.byKey == nil {
		g.byKey = make(map[string]*wanted, len(order))
	}
	clear(g.byKey)
	for _, a := range order {
		if k := keys[a.at]; g.byKey[k] == nil {
			w := &wanted{key: k, hash: a.hash}
			g.byKey[k] = w
			want = append(want, w)
		}
	}
	return want
}

// rangeSource returns the run of all entries, but those of hot keys, that have
// the same range as a hash.
func (v *view) rangeSource(source int, hash uint64, r *segment.Reader) segment.Source {
	if source >= len(v.segments) {
		return v.tables[source-len(v.segments)].source(hash)
	}
	return v.segments[source].ranges(r, hash, hash)
}

func (v *view) rangeCost(source int, hash uint64) int64 {
	if source >= len(v.segments) {
		return 0
	}
	n := v.segments[source].stored(hash, hash)
	if n == 0 {
		return 0
	}
	return readCost + n
}

// read takes the entries of one key, or of all that are wanted.
func (g *getter) read(src segment.Source, one *wanted, byKey map[string]*wanted) error {
	g.er.Reset(src)
	for {
		e, err := g.er.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		w := one
		if one != nil {
			if string(e.Key) != one.key {
				continue
			}
		} else if w = byKey[string(e.Key)]; w == nil || w.hash>>g.shift != g.prefix {
			continue // the ranges of this source may be wider
		}
		if err := g.apply(w, &e); err != nil {
			return err
		}
	}
}

func (g *getter) apply(w *wanted, e *segment.Entry) error {
	w.exists = e.Kind != segment.KindDelete
	switch e.Kind {
	case segment.KindSet, segment.KindDelete:
		w.value = w.value[:0]
	case segment.KindBlob:
		if !g.values {
			return nil
		}
		var err error
		w.value, err = g.v.appendBlob(w.value, e.Value)
		return err
	}
	if g.values {
		w.value = append(w.value, e.Value...)
	}
	return nil
}
