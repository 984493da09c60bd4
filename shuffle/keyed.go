package shuffle

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/go-partd/partd/encode"
)

// keyed puts records into a store under keys.
type keyed[T, K any] struct {
	appendKey func(dst []byte, v T) ([]byte, error)
	codec     encode.ValueCodec[T]
	keys      encode.ValueCodec[K]
	spool     *spool
	groups    *atomic.Int64
	meter     *meter
}

func newKeyed[T, K any](ctx context.Context, key func(T) K, o *Options[T]) (k keyed[T, K], err error) {
	if key == nil {
		return k, errors.New("grouping by no key: give a function")
	}
	keys, _, err := newCodec[K](true)
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

// Feed returns a feed. Each takes an additional half MiB of memory.
func (k *keyed[T, K]) Feed() (*Feed[T], error) {
	f, err := orZero(k.spool).feed()
	if err != nil {
		return nil, err
	}
	feed := newFeed(k.meter.feeding(), k.appendKey, k.codec.Encode, f.add, nil)
	feed.finish = func() error { return f.close(feed.err != nil) }
	return feed, nil
}

// Stats returns statistics: the records of all closed feeds, and the output so far.
func (k *keyed[T, K]) Stats() Stats {
	s := orZero(k.spool)
	s.engine.Mu.Lock()
	defer s.engine.Mu.Unlock()
	return Stats{Records: s.in.Records, Groups: orZero(k.groups).Load()}
}

// Close ends everything and removes all temporary data. Do not call it while a
// feed or a loop over results is in use.
func (k *keyed[T, K]) Close() error { return orZero(k.spool).close() }
