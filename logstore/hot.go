package logstore

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// A hot key uses a large share of a table. A segment stores the key's entries in a separate
// run, so that they can be read without other keys' entries.

const (
	maxHotPerPart = 16
	hotSample     = 8 << 10 // bytes at the start of a table's part that hotKeys examines first
)

// hotKeys returns the hot keys of a part, largest first. It returns nil if no key is hot.
func (sl *sealer) hotKeys(t *table, part int) (*hotPart, error) {
	size := int64(t.parts[part].size)
	minBytes := t.hotBytes()
	if size < minBytes || sl.segments.hotFull.Load() {
		return nil, nil
	}
	// A sample from the start of the part usually shows that no key is hot. Do not sample
	// unusually large parts, which probably have a hot key.
	if size < int64(len(t.arena))/64 {
		sample, err := countKeys(t.source(t.parts[part]), hotSample, nil)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(sample.keys, func(k keySize) bool { return k.encodedLen*size >= minBytes*sample.total/4*3 }) {
			return nil, nil
		}
	}
	if sl.spans == nil {
		sl.spans = make([]byte, 0, len(t.arena)/64)
		sl.freeSpans = sl.spans
	}
	sizes, err := countKeys(t.source(t.parts[part]), math.MaxInt64, sl.freeSpans)
	if err != nil {
		return nil, err
	}
	var hot []keySize
	for _, k := range sizes.keys {
		if k.encodedLen >= minBytes && len(k.key) <= segment.MaxHotKey {
			hot = append(hot, k)
		}
	}
	if len(hot) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(hot, func(a, b keySize) int { return cmp.Compare(b.encodedLen, a.encodedLen) })
	h := &hotPart{part: t.parts[part]}
	for _, k := range hot[:min(len(hot), maxHotPerPart)] {
		h.ids = append(h.ids, k.id)
		h.runs = append(h.runs, segment.HotRun{Hash: sl.catalog.format.Hash(k.key), Key: []byte(k.key), Bytes: k.valueLen, Resets: k.resets, Deleted: k.deleted})
	}
	if !sizes.spans.full {
		h.spans = sizes.spans.list
		sl.freeSpans = h.spans[len(h.spans):]
	}
	return h, nil
}

// hotBytes returns the minimum size of a hot key's entries in a table, in bytes.
func (t *table) hotBytes() int64 { return max(int64(len(t.arena))/512, 4<<10) }

// keySize sums up the effect of one key's entries.
type keySize struct {
	key        string
	id         uint32
	encodedLen int64 // encoded length of the entries
	valueLen   int64 // length of the value that these entries alone would yield
	resets     bool  // the entries include a Set or Delete, which discards earlier entries
	deleted    bool  // the key does not exist after the entries
}

func (k *keySize) add(e *segment.Entry) error {
	n, err := e.ValueLen()
	if err != nil {
		return err
	}
	if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
		k.valueLen, k.resets = 0, true
	}
	k.deleted = e.Kind == segment.KindDelete
	k.valueLen += n
	k.encodedLen += int64(len(e.Raw))
	return nil
}

// keySizes is the result of countKeys.
type keySizes struct {
	keys  []keySize // by id, that is, in the order of their first entries
	total int64     // number of bytes read
	spans spanList
}

var errLimitReached = errors.New("the limit of bytes to count was reached")

// countKeys sums up each key's entries, until it has read limit bytes. It appends the entries'
// spans to spans, up to its capacity.
func countKeys(src segment.Source, limit int64, spans []byte) (*keySizes, error) {
	s := &keySizes{spans: spanList{list: spans}}
	ids := map[string]uint32{}
	id := uint32(0)
	err := segment.EachEntry(src, func(e *segment.Entry) error {
		if s.total >= limit {
			return errLimitReached
		}
		// Usually, an entry of a hot key follows another.
		if len(s.keys) == 0 || string(e.Key) != s.keys[id].key {
			var ok bool
			if id, ok = ids[string(e.Key)]; !ok {
				id = uint32(len(s.keys))
				s.keys = append(s.keys, keySize{key: string(e.Key), id: id})
				ids[s.keys[id].key] = id
			}
		}
		s.total += int64(len(e.Raw))
		s.spans.add(id, len(e.Raw))
		return s.keys[id].add(e)
	})
	s.spans.end()
	if err == errLimitReached {
		err = nil
	}
	return s, err
}

// chooseHot selects the keys that get hot runs: the hot keys of the inputs, except those that
// are small compared with all merged data.
func (j *mergeJob) chooseHot() {
	sizes := map[string]int64{}
	j.hot = j.hot[:0]
	for _, seg := range j.inputs() {
		for i := range seg.Hot {
			h := &seg.Hot[i]
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

// hotBytes returns the minimum size of a hot key's entries in a merge, in bytes.
func (j *mergeJob) hotBytes() int64 { return max(j.inputBytes/2048, 4<<10) }

// findHeavy adds the largest keys with hashes from lo to hi to the hot keys, because a key can be
// hot after a merge without being hot in any input. It uses the Misra-Gries algorithm, which
// needs little memory for any number of keys.
func (j *mergeJob) findHeavy(lo, hi uint64) error {
	type count struct {
		key   []byte
		hash  uint64
		bytes int64
	}
	const maxCounts = 16
	var counts []count
	var sum int64
	err := j.eachEntryIn(j.first, j.end, lo, hi, func(e *segment.Entry) error {
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
