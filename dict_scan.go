package partd

import (
	"context"
	"iter"
	"math"
)

// Keys yields the keys shard by shard. Each shard is listed when the iteration reaches it, so Keys
// may omit keys created during the iteration.
func (d *Dict) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return d.keysOfPart(ctx, "keys", 0, 1)
}

// keysOfPart yields the keys in a part, which is a range of hashes. It skips shards outside
// that range.
func (d *Dict) keysOfPart(ctx context.Context, op string, part, parts int) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		var infos []KeyInfo
		for i := range d.shards {
			first := uint64(i) << (64 - dictShardBits)
			if hashPart(first, parts) > part || hashPart(first|(1<<(64-dictShardBits)-1), parts) < part {
				continue
			}
			if err := d.begin(ctx, op); err != nil {
				yield(KeyInfo{}, err)
				return
			}
			infos = d.shards[i].appendInfos(infos[:0], part, parts)
			d.end()
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

func (s *dictShard) appendInfos(infos []KeyInfo, part, parts int) []KeyInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id := range s.keys.IDs {
		if hashPart(s.keys.Hash(id), parts) == part {
			infos = append(infos, KeyInfo{Key: string(s.keys.Key(id)), Size: s.keys.Val(id).Len})
		}
	}
	return infos
}

// Scan yields each key's value as one chunk, in the order of Keys. It needs memory for
// the largest value.
func (d *Dict) Scan(ctx context.Context) iter.Seq2[Chunk, error] { return d.ScanPart(ctx, 0, 1) }

// ScanPart is like Scan, but yields only the keys in one part and reads only the shards that
// overlap the part. Each Dict hashes with its own seed, so the same key can be in different parts
// of two Dicts.
func (d *Dict) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := checkPart(part, parts); err != nil {
		return failed[Chunk](err)
	}
	return func(yield func(Chunk, error) bool) {
		buf := []byte{}
		for info, err := range d.keysOfPart(ctx, "scan", part, parts) {
			if err == nil {
				err = d.begin(ctx, "scan")
			}
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			var exists bool
			buf, exists = d.appendRange(buf[:0], info.Key, 0, math.MaxInt64)
			d.end()
			if !exists {
				continue // the key was deleted since it was listed
			}
			if !yield(Chunk{Key: info.Key, Data: buf, Last: true}, nil) {
				return
			}
		}
	}
}
