package shards

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// Get returns the value of each key, in the order of keys.
func (s *Shards) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	targets, parts, shardIndex := splitKeys(s, keys)
	results := make([][][]byte, len(targets))
	err := s.do(ctx, "get", readable, targets, func(i int, store partd.Partd) (err error) {
		results[i], err = store.Get(ctx, parts[i]...)
		return err
	})
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, n := range shardIndex {
		values[i], results[n] = results[n][0], results[n][1:]
	}
	return values, nil
}

// Open returns a reader of the key's current value.
func (s *Shards) Open(ctx context.Context, key string) (r io.ReadCloser, err error) {
	var oldInstance uint64
	err = s.do(ctx, "open", readable, s.shardOf(key), func(_ int, store partd.Partd) error {
		oldInstance = s.shardOf(key)[0].seenInstance()
		r, err = partd.Open(ctx, store, storedKey(key))
		return err
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, err
	}
	return &reader{r, func() error { return s.checkUnchanged(ctx, s.shardOf(key)[0], readable, oldInstance, nil) }}, nil
}

// HasKey reports whether the key exists.
func (s *Shards) HasKey(ctx context.Context, key string) (exists bool, err error) {
	if err := storekit.CheckKeys("has", []string{key}); err != nil {
		return false, err
	}
	err = s.do(ctx, "has", readable, s.shardOf(key), func(_ int, store partd.Partd) (err error) {
		exists, err = partd.Has(ctx, store, storedKey(key))
		return err
	})
	return exists && err == nil, err
}

// reader reads a value. At the end of the value, it calls check, which returns an error if the
// shard now has another store.
type reader struct {
	io.ReadCloser
	check func() error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		if checkErr := r.check(); checkErr != nil {
			err = errorf("read", checkErr)
		}
	}
	return n, err
}

// Keys yields each key once with its size, shard by shard, in order of the shards' names.
func (s *Shards) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		listAll(ctx, s, "keys", s.wholeShards(), func(store partd.Partd, _ share) iter.Seq2[partd.KeyInfo, error] {
			return partd.Keys(ctx, store)
		}, func(k *partd.KeyInfo) *string { return &k.Key }, yield)
	}
}

// Scan yields every key with its value as chunks, in the order of [Shards.Keys]. It scans one shard
// after another. To read several shards concurrently, use [Shards.ScanPart].
func (s *Shards) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.scan(ctx, s.wholeShards())
}

// ScanPart is like Scan, but yields only the keys in one part. A part consists of as few shards, or
// parts of shards, as possible.
func (s *Shards) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := storekit.CheckPart(part, parts); err != nil {
		return func(yield func(partd.Chunk, error) bool) { yield(partd.Chunk{}, err) }
	}
	return s.scan(ctx, s.sharesOf(part, parts))
}

func (s *Shards) scan(ctx context.Context, shares []share) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		listAll(ctx, s, "scan", shares, func(store partd.Partd, sh share) iter.Seq2[partd.Chunk, error] {
			return partd.ScanPart(ctx, store, sh.part, sh.parts)
		}, func(c *partd.Chunk) *string { return &c.Key }, yield)
	}
}

// share is a part of a shard's keys, or the whole shard if parts is 1.
type share struct {
	*shard
	part, parts int
}

func (s *Shards) wholeShards() []share { return s.sharesOf(0, 1) }

// sharesOf divides the keys of all shards into the given number of parts and returns the shares that
// make up one part. It divides each shard into the same number of pieces and gives each part the same
// number of consecutive pieces.
func (s *Shards) sharesOf(part, parts int) (shares []share) {
	n := len(s.shards)
	divisor, remainder := parts, n // the loop sets divisor to the greatest common divisor
	for remainder != 0 {
		divisor, remainder = remainder, divisor%remainder
	}
	piecesPerShard, piecesPerPart := parts/divisor, n/divisor
	for position, end := part*piecesPerPart, (part+1)*piecesPerPart; position < end; {
		current := share{s.shards[position/piecesPerShard], position % piecesPerShard, piecesPerShard}
		if current.part == 0 && position+piecesPerShard <= end {
			current.parts = 1 // the whole shard
			position += piecesPerShard
		} else {
			position++
		}
		shares = append(shares, current)
	}
	return shares
}

// listAll yields all items that the items function returns for the shares, except the shard lists.
// It replaces each stored key with the caller's key. key must return a pointer to an item's key.
func listAll[V any](ctx context.Context, s *Shards, op string, shares []share,
	items func(partd.Partd, share) iter.Seq2[V, error], key func(*V) *string, yield func(V, error) bool,
) {
	var zero V
	var targets []*shard
	for _, sh := range shares {
		targets = append(targets, sh.shard)
	}
	if err := s.prepare(ctx, readable, targets); err != nil {
		yield(zero, errorf(op, err))
		return
	}
	for _, sh := range shares {
		oldInstance := sh.seenInstance()
		for v, err := range items(*sh.store.Load(), sh) {
			if err != nil {
				yield(zero, errorf(op, &Error{sh.name, err}))
				return
			}
			k := key(&v)
			if *k == listKey {
				continue
			}
			if resemblesListKey(*k) {
				*k = (*k)[:len(*k)-1]
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := s.checkUnchanged(ctx, sh.shard, readable, oldInstance, nil); err != nil {
			yield(zero, errorf(op, &Error{sh.name, err}))
			return
		}
	}
}

// Stat returns the sum of the stores' statistics, without the shard lists.
func (s *Shards) Stat(ctx context.Context) (total partd.Stats, err error) {
	stats := make([]partd.Stats, len(s.shards))
	err = s.do(ctx, "stat", readable, s.shards, func(i int, store partd.Partd) error {
		st, err := partd.Stat(ctx, store)
		if err != nil {
			return err
		}
		list, err := readList(ctx, store)
		if list != "" && st.Keys > 0 { // if there were no keys, the list was written after Stat
			st.Keys--
			st.Bytes -= int64(len(list))
		}
		stats[i] = st
		return err
	})
	for _, st := range stats {
		total.Keys += st.Keys
		total.Bytes += st.Bytes
		total.Memory += st.Memory
		total.Disk += st.Disk
		total.Changes += st.Changes
	}
	return total, err
}

// Check verifies the checksums of all stores. The number of records in the result includes the
// shard lists.
func (s *Shards) Check(ctx context.Context) (total partd.CheckResult, err error) {
	results := make([]partd.CheckResult, len(s.shards))
	err = s.do(ctx, "verify", strict, s.shards, func(i int, store partd.Partd) (err error) {
		results[i], err = partd.Check(ctx, store)
		return errors.Join(err, s.ensure(ctx, s.shards[i], readable))
	})
	for _, f := range results {
		total.Records += f.Records
		total.Segments += f.Segments
	}
	return total, err
}
