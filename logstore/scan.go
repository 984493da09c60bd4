package logstore

import (
	"context"
	"errors"
	"iter"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/storekit"
)

// Scan yields every key with its whole value, in the order of the keys' hashes, which stays
// the same until the store is dropped. Scan reads and groups ahead, with up to GOMAXPROCS
// goroutines. A scan that reaches the end without an error has compared everything that it read
// with the ledger (the checksum of all data).
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.ScanPart(ctx, 0, 1)
}

// ScanPart is like Scan, but yields only the keys in one part and reads little else. Parts are
// ranges of key hashes, so they stay the same when the store is flushed, merged or reopened.
// ScanPart verifies checksums, but not the ledger, which covers the whole store. Only
// [Store.Scan], part 0 of 1, and [Store.Check] detect missing records.
func (s *Store) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := storekit.CheckPart(part, parts); err != nil {
		return func(yield func(partd.Chunk, error) bool) { yield(partd.Chunk{}, err) }
	}
	return func(yield func(partd.Chunk, error) bool) {
		err := s.scan(ctx, scanRequest{hashes: partHashes(part, parts), parts: parts}, func(b *scanBatch) bool {
			return b.each(func(key string, item *scanItem) bool {
				data := b.data[item.start : item.start+item.n : item.start+item.n]
				return yield(partd.Chunk{Key: key, Offset: item.offset, Data: data, Last: item.last}, nil)
			})
		})
		if err != nil {
			yield(partd.Chunk{}, s.opError("scan", err))
		}
	}
}

func partHashes(part, parts int) hashRange {
	lowest := func(p int) uint64 { // ⌈2⁶⁴ p / parts⌉
		quotient, remainder := bits.Div64(uint64(p), 0, uint64(parts))
		if remainder > 0 {
			quotient++
		}
		return quotient
	}
	r := allHashes
	if part > 0 {
		r.lo = lowest(part)
	}
	if part+1 < parts {
		r.hi = lowest(part+1) - 1
	}
	return r
}

// Keys yields each key once with its size, in the order of Scan. It reads most of the store's data.
func (s *Store) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		err := s.scan(ctx, scanRequest{hashes: allHashes, parts: 1, keysOnly: true}, func(b *scanBatch) bool {
			return b.each(func(key string, item *scanItem) bool {
				return yield(partd.KeyInfo{Key: key, Size: item.size}, nil)
			})
		})
		if err != nil {
			yield(partd.KeyInfo{}, s.opError("keys", err))
		}
	}
}

// Stat counts keys and bytes. It takes as long as Keys.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	var st partd.Stats
	err := s.scan(ctx, scanRequest{hashes: allHashes, parts: 1, keysOnly: true}, func(b *scanBatch) bool {
		for i := range b.items {
			st.Keys++
			st.Bytes += b.items[i].size
		}
		return true
	})
	if err == nil {
		st.Disk, err = s.journal.diskUsed()
	}
	if err != nil {
		return partd.Stats{}, s.opError("stat", err)
	}
	st.Memory = s.MemoryUsed()
	return st, nil
}

// scan calls yield with batches of the requested content of the store until yield returns false.
func (s *Store) scan(ctx context.Context, req scanRequest, yield func(*scanBatch) bool) (err error) {
	if ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return err
	}
	sc := s.scans.run(ctx, v, req)
	stopped := false
	defer func() {
		if e := sc.close(); !stopped {
			err = errors.Join(err, e)
		}
	}()
	for p := range sc.partitions {
		for b := range p.batches {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			if !yield(b) {
				stopped = true
				return nil
			}
			b.reset()
			b.free <- b
		}
		if p.err != nil {
			return p.err
		}
	}
	return sc.verify()
}
