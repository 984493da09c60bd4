package logstore

import (
	"context"
	"iter"
	"math/bits"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// Scan yields every key with its whole value, in the order of the keys' hashes,
// which is the same as long as the store is not dropped. It reads and groups ahead
// with as many goroutines as run at once. A scan that comes to the end has read all
// that was ever appended to the store, and compared it with the ledger.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.scanChunks(ctx, 0, 1)
}

// ScanPart yields what Scan yields, of the keys of one part alone, and reads little
// else: keys belong to parts by ranges of their hashes, so that parts stay the same
// when the store is flushed, merged or opened again. What is read is compared with
// its checksums, and must be in the range of its hash; the ledger knows only the
// store as a whole, so that records that are missing as if they had never been
// written are noticed by [Store.Scan], by a single part of 1, and by [Store.Verify].
func (s *Store) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := partd.CheckPart(part, parts); err != nil {
		return func(yield func(partd.Chunk, error) bool) { yield(partd.Chunk{}, err) }
	}
	return s.scanChunks(ctx, part, parts)
}

// partHashes returns the hashes of one of several parts.
func partHashes(part, parts int) hashRange {
	first := func(p int) uint64 { // ⌈2⁶⁴ p / parts⌉
		q, rest := bits.Div64(uint64(p), 0, uint64(parts))
		if rest > 0 {
			q++
		}
		return q
	}
	r := allHashes
	if part > 0 {
		r.lo = first(part)
	}
	if part+1 < parts {
		r.hi = first(part+1) - 1
	}
	return r
}

func (s *Store) scanChunks(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		err := s.scan(ctx, scanRequest{hashes: partHashes(part, parts), parts: parts}, func(b *scanBatch) bool {
			return b.each(func(key string, it *scanItem) bool {
				return yield(partd.Chunk{Key: key, Offset: it.offset, Data: b.data[it.at : it.at+it.n : it.at+it.n], Last: it.last}, nil)
			})
		})
		if err != nil {
			yield(partd.Chunk{}, s.errorf("scan", err))
		}
	}
}

// Keys yields each key once with its size, in the order of Scan. It reads the store
// but for large values and, mostly, those of hot keys.
func (s *Store) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		err := s.scan(ctx, scanRequest{hashes: allHashes, parts: 1, keysOnly: true}, func(b *scanBatch) bool {
			return b.each(func(key string, it *scanItem) bool {
				return yield(partd.KeyInfo{Key: key, Size: it.size}, nil)
			})
		})
		if err != nil {
			yield(partd.KeyInfo{}, s.errorf("keys", err))
		}
	}
}

// Stat counts keys and bytes, which takes what Keys takes.
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
		st.Disk, err = s.diskUsed()
	}
	if err != nil {
		return partd.Stats{}, s.errorf("stat", err)
	}
	st.Memory = s.MemoryUsed()
	return st, nil
}

func (s *Store) diskUsed() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, partd.ErrClosed
	}
	var n int64
	for _, f := range s.catalog.files.files() {
		info, err := f.f.Info()
		if err != nil {
			return 0, err
		}
		if f.Kind == segment.BlobFile {
			info.Size = min(info.Size, info.Disk) // it may have holes
		}
		n += info.Size
	}
	size, err := s.wal.size()
	return n + size, err
}

func (s *Store) scanView(ctx context.Context) (*view, error) {
	if s.canFlush() {
		return s.flushedView(ctx, allHashes.lo, allHashes.hi)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewLocked(allHashes.lo, allHashes.hi)
}
