package shuffle

import (
	"context"
	"errors"
	"sync/atomic"
)

// keyed puts records into a store under keys.
type keyed[T, K any] struct {
	appendKey func(dst []byte, v T) ([]byte, error)
	codec     Codec[T]
	keys      Codec[K]
	spool     *spool
	groups    *atomic.Int64
	meter     *meter
}

func newKeyed[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (k keyed[T, K], err error) {
	if key == nil {
		return k, errors.New("grouping by no key: give a function")
	}
	keys, err := newCodec[K](true)
	if err != nil {
		return k, err
	}
	encode := func(dst []byte, v T) ([]byte, error) { return keys.Encode(dst, key(v)) }
	k = keyed[T, K]{appendKey: encode, keys: keys, groups: new(atomic.Int64)}
	c, err := o.resolve()
	if err != nil {
		return k, err
	}
	k.codec, k.meter = c.Codec, c.meter
	k.spool, err = newSpool(ctx, c)
	return k, err
}

// Feed returns a feed. Each takes half a MiB of memory beside.
func (k *keyed[T, K]) Feed() (*Feed[T], error) {
	f, err := k.spool.feed()
	if err != nil {
		return nil, err
	}
	feed := newFeed(k.meter.feeding(), k.appendKey, k.codec.Encode, f.add, nil)
	feed.finish = func() error { return f.close(feed.err != nil) }
	return feed, nil
}

// Stats tells what was put in by the feeds that are closed, and what came out so far.
func (k *keyed[T, K]) Stats() Stats {
	k.spool.engine.Mu.Lock()
	defer k.spool.engine.Mu.Unlock()
	return Stats{Records: k.spool.in.Records, Groups: k.groups.Load()}
}

// Close ends everything and removes all temporary data. No feed and no loop over
// results may be in use.
func (k *keyed[T, K]) Close() error { return k.spool.close() }
