package shards

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
)

// Get returns the value of each key, in the order of keys.
func (s *Shards) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := partd.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	use, parts, at := splitKeys(s, keys)
	results := make([][][]byte, len(use))
	err := s.do(ctx, "get", read, use, func(i int, store partd.Partd) (err error) {
		results[i], err = store.Get(ctx, parts[i]...)
		return err
	})
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, n := range at {
		values[i], results[n] = results[n][0], results[n][1:]
	}
	return values, nil
}

// Open returns a reader of the key's current value.
func (s *Shards) Open(ctx context.Context, key string) (r io.ReadCloser, err error) {
	var before uint64
	err = s.do(ctx, "open", read, s.shardOf(key), func(_ int, store partd.Partd) error {
		before = s.shardOf(key)[0].seenInstance()
		r, err = partd.Open(ctx, store, storedKey(key))
		return err
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, err
	}
	return &reader{r, func() error { return s.checkUnchanged(ctx, s.shardOf(key)[0], read, before, nil) }}, nil
}

// HasKey reports whether the key exists.
func (s *Shards) HasKey(ctx context.Context, key string) (exists bool, err error) {
	if err := partd.CheckKeys("has", []string{key}); err != nil {
		return false, err
	}
	err = s.do(ctx, "has", read, s.shardOf(key), func(_ int, store partd.Partd) (err error) {
		exists, err = partd.Has(ctx, store, storedKey(key))
		return err
	})
	return exists && err == nil, err
}

// reader checks at the end of a value that its shard still has the same store.
type reader struct {
	io.ReadCloser
	check func() error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		if other := r.check(); other != nil {
			err = errorf("read", other)
		}
	}
	return n, err
}

// Keys yields each key once with its size, shard by shard in the order of their names, and within a
// shard in its store's own order.
func (s *Shards) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		listAll(ctx, s, "keys", s.wholeShards(), func(store partd.Partd, _ share) iter.Seq2[partd.KeyInfo, error] {
			return partd.Keys(ctx, store)
		}, func(k *partd.KeyInfo) *string { return &k.Key }, yield)
	}
}

// Scan yields every key with its value as chunks, in the order of [Shards.Keys]. It reads one shard
// after another, each from a snapshot if its store can take one, so it needs the memory of one scan.
// To read several shards at once, use [Shards.ScanPart].
func (s *Shards) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.scan(ctx, s.wholeShards())
}

// ScanPart yields the keys of one part. Parts divide the shards first, so that a reader contacts few
// of them, and then the keys of a shard as its store does.
func (s *Shards) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := partd.CheckPart(part, parts); err != nil {
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

// share is a part of one shard's keys.
type share struct {
	*shard
	part, parts int
}

func (s *Shards) wholeShards() []share { return s.sharesOf(0, 1) }

// sharesOf returns the shares of one reader. It divides all shards into equally many pieces, such that
// each reader gets the same number of consecutive pieces.
func (s *Shards) sharesOf(part, parts int) (shares []share) {
	n := len(s.shards)
	g, rest := parts, n // g becomes their greatest common divisor
	for rest != 0 {
		g, rest = rest, g%rest
	}
	pieces, each := parts/g, n/g // pieces per shard, pieces per reader
	for position, end := part*each, (part+1)*each; position < end; {
		next := share{s.shards[position/pieces], position % pieces, pieces}
		if next.part == 0 && position+pieces <= end {
			next.parts = 1 // the whole shard
			position += pieces
		} else {
			position++
		}
		shares = append(shares, next)
	}
	return shares
}

// listAll yields the items of shares, except for the lists of shards.
func listAll[V any](ctx context.Context, s *Shards, op string, shares []share,
	items func(partd.Partd, share) iter.Seq2[V, error], key func(*V) *string, yield func(V, error) bool,
) {
	var zero V
	var use []*shard
	for _, sh := range shares {
		use = append(use, sh.shard)
	}
	if err := s.prepare(ctx, read, use); err != nil {
		yield(zero, errorf(op, err))
		return
	}
	for _, sh := range shares {
		before := sh.seenInstance()
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
		if err := s.checkUnchanged(ctx, sh.shard, read, before, nil); err != nil {
			yield(zero, errorf(op, &Error{sh.name, err}))
			return
		}
	}
}

// Stat returns the sum of the stores' statistics, without the lists of shards.
func (s *Shards) Stat(ctx context.Context) (all partd.Stats, err error) {
	stats := make([]partd.Stats, len(s.shards))
	err = s.do(ctx, "stat", read, s.shards, func(i int, store partd.Partd) error {
		st, err := partd.Stat(ctx, store)
		if err != nil {
			return err
		}
		list, err := listOf(ctx, store)
		if list != "" && st.Keys > 0 { // with 0 keys the list was written in between
			st.Keys--
			st.Bytes -= int64(len(list))
		}
		stats[i] = st
		return err
	})
	for _, st := range stats {
		all.Keys += st.Keys
		all.Bytes += st.Bytes
		all.Memory += st.Memory
		all.Disk += st.Disk
		all.Changes += st.Changes
	}
	return all, err
}

// Check verifies the checksums of all stores. Its Records include the lists of shards.
func (s *Shards) Check(ctx context.Context) (all partd.CheckResult, err error) {
	results := make([]partd.CheckResult, len(s.shards))
	err = s.do(ctx, "verify", strict, s.shards, func(i int, store partd.Partd) (err error) {
		results[i], err = partd.Check(ctx, store)
		return errors.Join(err, s.enter(ctx, s.shards[i], read))
	})
	for _, f := range results {
		all.Records += f.Records
		all.Segments += f.Segments
	}
	return all, err
}
