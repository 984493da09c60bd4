package partd

import (
	"context"

	"github.com/go-partd/partd/internal/base/keymap"
)

// dictBatch is the memory that an Append needs besides its entries.
type dictBatch struct {
	hashes []uint64
	order  []uint32 // indexes of the entries, stably sorted by shard
	sink   uint64   // result of Prefetch, stored so that the compiler keeps the memory reads in Prefetch
}

// maxPooledBatch is the maximum number of entries of a dictBatch that is reused.
const maxPooledBatch = 1 << 16

// Append adds each entry's value to the end of its key's value.
//
// It appends all entries of a shard under one lock, so that a reader sees either all or none of
// a batch's values for a key.
func (d *Dict) Append(ctx context.Context, entries ...Entry) error {
	if _, err := checkEntries("append", entries); err != nil {
		return err
	}
	if err := d.enter(ctx, "append"); err != nil {
		return err
	}
	defer d.leave()
	b := d.batches.Get().(*dictBatch)
	ends := b.sort(d, entries)
	start := uint32(0)
	for i, end := range ends {
		if end > start {
			d.shards[i].append(b, entries, b.order[start:end])
		}
		start = end
	}
	if len(entries) <= maxPooledBatch {
		d.batches.Put(b)
	}
	return nil
}

// sort hashes the keys, and fills b.order with the entries whose values are not empty, sorted
// by shard. It returns the end of each shard's entries in b.order.
func (b *dictBatch) sort(d *Dict, entries []Entry) (ends [dictShards]uint32) {
	if cap(b.hashes) < len(entries) {
		b.hashes = make([]uint64, len(entries))
		b.order = make([]uint32, len(entries))
	}
	b.hashes = b.hashes[:len(entries)]
	for i := range entries {
		b.hashes[i] = keymap.Hash(d.seed, entries[i].Key)
		if len(entries[i].Value) > 0 {
			ends[b.hashes[i]>>(64-dictShardBits)]++
		}
	}
	sum := uint32(0)
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	b.order = b.order[:sum]
	for i, hash := range b.hashes {
		if len(entries[i].Value) > 0 {
			shard := hash >> (64 - dictShardBits)
			b.order[ends[shard]] = uint32(i)
			ends[shard]++
		}
	}
	return ends
}

func (s *dictShard) append(b *dictBatch, entries []Entry, order []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// With a million keys, every lookup below would miss the cache. Prefetch makes the misses
	// overlap.
	b.sink = s.keys.Prefetch(b.hashes, order)
	for _, i := range order {
		e := &entries[i]
		id := s.keys.Find(b.hashes[i], e.Key)
		if id == 0 {
			id = s.keys.Insert(b.hashes[i], e.Key)
		}
		s.data.Append(s.keys.Val(id), e.Value)
		s.bytes += int64(len(e.Value))
	}
	s.updateIndexBytes()
}
