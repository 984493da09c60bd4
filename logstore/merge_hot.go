package logstore

import (
	"math"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

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
				n = math.MinInt64 // add the key only once
			}
			sizes[string(h.Key)] = n + int64(h.Len)
		}
	}
	slices.SortFunc(j.hot, segment.CompareHot)
}

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
			counts = append(counts, count{slices.Clone(e.Key), j.format.HashBytes(e.Key), n})
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

func (j *mergeJob) writeHot(h *segment.HotRun) error {
	j.w.BeginRun()
	var size keySize
	endRun := func() {
		j.w.EndRun(segment.HotRun{Hash: h.Hash, Key: h.Key, Bytes: size.valueLen, Resets: size.resets, Deleted: size.deleted})
	}
	err := j.collectResets(resetCost+segment.MaxHotKey, func(first, end int, f func(e *segment.Entry) error) error {
		return j.eachOfKey(h, first, end, f)
	})
	if err != nil {
		return err
	}
	iterate := func(f func(e *segment.Entry) error) error { return j.eachOfKey(h, j.first, j.end, f) }
	err = j.dropDead(iterate, func(e *segment.Entry) error {
		if j.w.Size() > j.maxLen {
			if size.encodedLen > 0 {
				endRun()
			}
			if err := j.split(); err != nil {
				return err
			}
			j.w.BeginRun()
			size = keySize{}
		}
		if err := size.add(e); err != nil {
			return err
		}
		return j.put(e)
	})
	if err == nil && size.encodedLen > 0 {
		endRun()
	}
	return err
}
