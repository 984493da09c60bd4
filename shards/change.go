package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// Append adds each entry's value to the end of its key's value, in order. Within each shard, it
// applies all entries or none.
func (s *Shards) Append(ctx context.Context, entries ...partd.Entry) error {
	if _, err := storekit.CheckEntries("append", entries); err != nil {
		return err
	}
	targets, parts, _ := split(s, entries, func(e *partd.Entry) *string { return &e.Key })
	return s.do(ctx, "append", writable, targets, func(i int, store partd.Partd) error { return store.Append(ctx, parts[i]...) })
}

// BatchBytes returns the recommended maximum size of one Append, in bytes: 4 MiB, or less if an open store
// recommends less.
func (s *Shards) BatchBytes() int {
	size := partd.BatchBytes(nil)
	for _, sh := range s.shards {
		if store := sh.store.Load(); store != nil {
			size = min(size, partd.BatchBytes(*store))
		}
	}
	return size
}

// Set replaces the value of a key.
func (s *Shards) Set(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set", key, value, partd.Set)
}

// SetOnce sets a key unless it exists.
func (s *Shards) SetOnce(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set once", key, value, partd.SetOnce)
}

func (s *Shards) set(ctx context.Context, op, key string, value []byte,
	set func(context.Context, partd.Partd, string, []byte) error,
) error {
	return s.do(ctx, op, writable, s.shardOf(key), func(_ int, store partd.Partd) error { return set(ctx, store, storedKey(key), value) })
}

// Delete removes keys. Within each shard, it removes all of them or none.
func (s *Shards) Delete(ctx context.Context, keys ...string) error {
	if err := storekit.CheckKeys("delete", keys); err != nil {
		return err
	}
	targets, parts, _ := splitKeys(s, keys)
	return s.do(ctx, "delete", writable, targets, func(i int, store partd.Partd) error { return partd.Delete(ctx, store, parts[i]...) })
}

// Drop removes every key and then writes the shard lists again, even if ctx has ended. Drop is not
// atomic: if an append runs concurrently, its entries may be removed from some shards and remain on
// others.
func (s *Shards) Drop(ctx context.Context) error {
	err := s.do(ctx, "drop", writable, s.shards, func(i int, store partd.Partd) error {
		sh := s.shards[i]
		known := sh.current.Load()
		if known == nil { // a concurrent Drop failed and reset current: check the store again
			return s.ensure(ctx, sh, readable)
		}
		text, err := readList(ctx, store)
		if err != nil {
			return err
		}
		if _, ok := sh.parseList(text); !ok { // another client's Drop has removed the list
			text = known.text
		}
		err = store.Drop(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			return err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), relistTimeout)
		defer cancel()
		state, listErr := writeList(ctx, store, text)
		if listErr == nil {
			listErr = s.recordIdentity(sh, state, sh.instance())
		}
		if listErr != nil {
			sh.current.Store(nil)
			return fmt.Errorf("%w: the store may have been dropped, but its shard list could not be written again: %w",
				partd.ErrUnknownOutcome, errors.Join(err, listErr))
		}
		return err
	})
	if err == nil && !slices.ContainsFunc(s.shards, func(sh *shard) bool { return !sh.isListed() }) {
		err = errorf("drop", s.exchangeIDs(ctx)) // another client may have written a list with another identifier
	}
	return err
}

const relistTimeout = 5 * time.Second // maximum time for Drop to write a shard list again

// Flush calls [partd.Flush] for all stores.
func (s *Shards) Flush(ctx context.Context) error {
	return s.do(ctx, "flush", lenient, s.shards, func(_ int, store partd.Partd) error { return partd.Flush(ctx, store) })
}

// Sync waits until all changes that returned before the call are durable on every shard.
func (s *Shards) Sync(ctx context.Context) error {
	return s.do(ctx, "sync", readable, s.shards, func(_ int, store partd.Partd) error { return partd.Sync(ctx, store) })
}

func (s *Shards) shardOf(key string) []*shard {
	if len(s.shards) == 0 { // s is a zero value; prepare will return an error
		return nil
	}
	i := s.indexOf(key)
	return s.shards[i : i+1]
}

// split groups items by the shards of their keys and converts the keys to stored keys. It returns
// the shards that have items (targets), the items of each target (parts), and the index in targets
// of each item's shard (shardIndex). key must return a pointer to an item's key.
func split[T any](s *Shards, items []T, key func(*T) *string) (targets []*shard, parts [][]T, shardIndex []uint8) {
	shardIndex = make([]uint8, len(items)) // uint8 suffices for MaxShards
	var counts, ends [MaxShards]int
	for i := range items {
		n := s.indexOf(*key(&items[i]))
		shardIndex[i] = uint8(n)
		counts[n]++
	}
	sorted, end := make([]T, len(items)), 0
	var targetIndex [MaxShards]uint8
	for n, count := range counts[:len(s.shards)] {
		ends[n] = end
		if count > 0 {
			targetIndex[n] = uint8(len(targets))
			targets = append(targets, s.shards[n])
			parts = append(parts, sorted[end:end+count:end+count])
			end += count
		}
	}
	for i := range items {
		n := shardIndex[i]
		target := &sorted[ends[n]]
		*target = items[i]
		k := key(target)
		*k = storedKey(*k)
		ends[n]++
		shardIndex[i] = targetIndex[n]
	}
	return targets, parts, shardIndex
}

func splitKeys(s *Shards, keys []string) (targets []*shard, parts [][]string, shardIndex []uint8) {
	return split(s, keys, func(key *string) *string { return key })
}
