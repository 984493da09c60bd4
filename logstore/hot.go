package logstore

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// A hot key uses a large share of a table. A segment stores the key's entries in a separate
// run, so that they can be read without other keys' entries.

const (
	maxHotPerPart = 16
	hotSample     = 8 << 10 // bytes at the start of a table's part that hotKeys examines first
)

// hotKeys returns the hot keys of a part, largest first.
func (sl *sealer) hotKeys(t *table, part int) ([]segment.HotRun, error) {
	size := int64(t.parts[part].size)
	minBytes := t.hotBytes()
	if size < minBytes || sl.segments.hotFull.Load() {
		return nil, nil
	}
	// A sample from the start of the part usually shows that no key is hot. Do not sample
	// unusually large parts, which probably have a hot key.
	if size < int64(len(t.arena))/64 {
		sizes, sampled, err := countKeys(t.source(t.parts[part]), hotSample)
		if err != nil {
			return nil, err
		}
		possiblyHot := false
		for _, k := range sizes {
			possiblyHot = possiblyHot || k.encodedLen*size >= minBytes*sampled/4*3
		}
		if !possiblyHot {
			return nil, nil
		}
	}
	sizes, _, err := countKeys(t.source(t.parts[part]), math.MaxInt64)
	if err != nil {
		return nil, err
	}
	var hot []segment.HotRun
	for key, n := range sizes {
		if n.encodedLen >= minBytes && len(key) <= segment.MaxHotKey {
			hot = append(hot, segment.HotRun{Hash: sl.catalog.format.Hash(key), Key: []byte(key), Bytes: n.valueLen, Resets: n.resets, Deleted: n.deleted})
		}
	}
	slices.SortFunc(hot, func(a, b segment.HotRun) int {
		return cmp.Compare(sizes[string(b.Key)].encodedLen, sizes[string(a.Key)].encodedLen)
	})
	return hot[:min(len(hot), maxHotPerPart)], nil
}

// hotBytes returns the minimum size of a hot key's entries in a table, in bytes.
func (t *table) hotBytes() int64 { return max(int64(len(t.arena))/512, 4<<10) }

// keySize sums up the effect of one key's entries.
type keySize struct {
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

var errLimitReached = errors.New("the limit of bytes to count was reached")

// countKeys sums up each key's entries, until it has read limit bytes. total is the number of bytes
// read.
func countKeys(src segment.Source, limit int64) (sizes map[string]*keySize, total int64, err error) {
	sizes = map[string]*keySize{}
	err = segment.EachEntry(src, func(e *segment.Entry) error {
		if total >= limit {
			return errLimitReached
		}
		k := sizes[string(e.Key)]
		if k == nil {
			k = &keySize{}
			sizes[string(e.Key)] = k
		}
		total += int64(len(e.Raw))
		return k.add(e)
	})
	if err == errLimitReached {
		err = nil
	}
	return sizes, total, err
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
