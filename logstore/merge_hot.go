package logstore

import (
	"math"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// chooseHot decides which keys get runs of their own: those that have, unless
// they are small beside all the rest.
func (j *mergeJob) chooseHot() {
	sizes := map[string]int64{}
	j.hot = j.hot[:0]
	for _, g := range j.inputs() {
		for i := range g.Hot {
			h := &g.Hot[i]
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

// hotBytes is the least that a hot key takes of what is merged.
func (j *mergeJob) hotBytes() int64 { return max(j.inputBytes/2048, 4<<10) }

func (j *mergeJob) isHot(hash uint64, key []byte) bool {
	if len(j.hot) == 0 {
		return false
	}
	_, found := slices.BinarySearchFunc(j.hot, segment.HotRun{Hash: hash, Key: key}, segment.CompareHot)
	return found
}

// findHeavy makes hot what takes a good part of an interval: many small
// segments can have a hot key that is hot in none. It counts as Misra and Gries
// did, in little memory whatever the number of keys.
func (j *mergeJob) findHeavy(lo, hi uint64) error {
	type count struct {
		key   []byte
		hash  uint64
		bytes int64
	}
	const maxCounts = 16
	var counts []count
	var sum int64
	err := j.eachIn(j.first, j.end, lo, hi, func(e *segment.Entry) error {
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
