package shards

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
)

// Get returns the value of each key, in the order asked.
func (s *Shards) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := partd.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	use, parts, at := splitKeys(s, keys)
	found := make([][][]byte, len(use))
	err := s.do(ctx, "get", read, use, func(i int, store partd.Partd) (err error) {
		found[i], err = store.Get(ctx, parts[i]...)
		return err
	})
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, n := range at {
		values[i], found[n] = found[n][0], found[n][1:]
	}
	return values, nil
}

// Open returns a reader of the key's current value.
func (s *Shards) Open(ctx context.Context, key string) (r io.ReadCloser, err error) {
	var before uint64
	err = s.do(ctx, "open", read, s.shardOf(key), func(_ int, store partd.Partd) error {
		before = s.shardOf(key)[0].seen()
		r, err = partd.Open(ctx, store, inner(key))
		return err
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, err
	}
	return &reader{r, func() error { return s.still(ctx, s.shardOf(key)[0], read, before, nil) }}, nil
}

// HasKey reports whether the key exists.
func (s *Shards) HasKey(ctx context.Context, key string) (exists bool, err error) {
	if err := partd.CheckKeys("has", []string{key}); err != nil {
		return false, err
	}
	err = s.do(ctx, "has", read, s.shardOf(key), func(_ int, store partd.Partd) (err error) {
		exists, err = partd.Has(ctx, store, inner(key))
		return err
	})
	return exists && err == nil, err
}

// reader looks at the end of a value whether its shard is still the same.
type reader struct {
	io.ReadCloser
	still func() error
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		if other := r.still(); other != nil {
			err = errorf("read", other)
		}
	}
	return n, err
}

// Keys yields each key once with its size. It goes through the shards in the order of
// their names, and within a shard uses its store's own order.
func (s *Shards) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		listAll(ctx, s, "keys", s.wholeShards(), func(store partd.Partd, _ share) iter.Seq2[partd.KeyInfo, error] {
			return partd.Keys(ctx, store)
		}, func(k *partd.KeyInfo) *string { return &k.Key }, yield)
	}
}

// Scan yields every key with its value as chunks, in the order of [Shards.Keys]. Each
// shard is read from a snapshot, if its store can take one, at the time of its turn.
// Scan reads one shard at a time, so it needs the memory of one scan. To read several
// at once, use [Shards.ScanPart].
func (s *Shards) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.scan(ctx, s.wholeShards())
}

// ScanPart is Scan for the keys of one part. Parts divide the shards first, so that a
// reader contacts as few of them as possible, and then the keys of a shard in the way its
// store does.
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

// share is a part of the keys of a shard.
type share struct {
	*shard
	part, parts int
}

func (s *Shards) wholeShards() []share { return s.sharesOf(0, 1) }

// sharesOf returns what a reader reads. All shards are cut into so many equal pieces that
// each reader has the same number of them, one after the other.
func (s *Shards) sharesOf(part, parts int) (shares []share) {
	n := len(s.shards)
	g, rest := parts, n // their greatest common divisor
	for rest != 0 {
		g, rest = rest, g%rest
	}
	pieces, each := parts/g, n/g // of a shard, of a reader
	for at, end := part*each, (part+1)*each; at < end; {
		one := share{s.shards[at/pieces], at % pieces, pieces}
		if one.part == 0 && at+pieces <= end {
			one.parts = 1 // all of it
			at += pieces
		} else {
			at++
		}
		shares = append(shares, one)
	}
	return shares
}

// listAll yields the items of shares, but for the list of shards.
func listAll[V any](ctx context.Context, s *Shards, op string, shares []share,
	items func(partd.Partd, share) iter.Seq2[V, error], key func(*V) *string, yield func(V, error) bool,
) {
	var none V
	var use []*shard
	for _, sh := range shares {
		use = append(use, sh.shard)
	}
	if err := s.prepare(ctx, read, use); err != nil {
		yield(none, errorf(op, err))
		return
	}
	for _, sh := range shares {
		before := sh.seen()
		for v, err := range items(*sh.store.Load(), sh) {
			if err != nil {
				yield(none, errorf(op, &Error{sh.name, err}))
				return
			}
			k := key(&v)
			if *k == listKey {
				continue
			}
			if likeListKey(*k) {
				*k = (*k)[:len(*k)-1]
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := s.still(ctx, sh.shard, read, before, nil); err != nil {
			yield(none, errorf(op, &Error{sh.name, err}))
			return
		}
	}
}

// Stat adds up the figures of the stores, without the lists of shards.
func (s *Shards) Stat(ctx context.Context) (all partd.Stats, err error) {
	stats := make([]partd.Stats, len(s.shards))
	err = s.do(ctx, "stat", read, s.shards, func(i int, store partd.Partd) error {
		st, err := partd.Stat(ctx, store)
		if err != nil {
			return err
		}
		list, err := listOf(ctx, store)
		if list != "" && st.Keys > 0 { // without a key it was written in between
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

// Check makes all stores compare their checksums. Its Records include the lists of
// shards.
func (s *Shards) Check(ctx context.Context) (all partd.Checked, err error) {
	found := make([]partd.Checked, len(s.shards))
	err = s.do(ctx, "verify", strict, s.shards, func(i int, store partd.Partd) (err error) {
		found[i], err = partd.Check(ctx, store)
		return errors.Join(err, s.enter(ctx, s.shards[i], read))
	})
	for _, f := range found {
		all.Records += f.Records
		all.Segments += f.Segments
	}
	return all, err
}
