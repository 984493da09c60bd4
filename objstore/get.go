package objstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	"github.com/go-partd/partd"
)

// Get returns the values of keys; see [partd.Partd]. It flushes the store, reads the
// log to its end, and reads the ranges of the keys in every segment.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := partd.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	values, err := s.get(ctx, keys)
	if err != nil {
		e := &partd.Error{Op: "get", Err: err}
		if len(keys) == 1 {
			e.Key, e.HasKey = keys[0], true
		}
		return nil, e
	}
	return values, nil
}

// asked is a key that Get was asked for.
type asked struct {
	number int
	hash   uint64
}

func (s *Store) get(ctx context.Context, keys []string) ([][]byte, error) {
	v, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	all := make([]asked, len(keys))
	for i, k := range keys {
		values[i] = []byte{}
		all[i] = asked{i, s.format.Hash(k)}
	}
	slices.SortFunc(all, func(a, b asked) int { return cmp.Compare(a.hash, b.hash) })
	memory, giveBack := s.scans.take()
	defer giveBack()
	sc := &scanner{store: s, view: v, budget: min(memory, maxArena)}
	sc.groups.format = s.format
	for len(all) > 0 {
		// As far as what lies between two keys need not be read.
		n, iv := 1, interval{all[0].hash, all[0].hash}
		size, weight := v.weight(iv)
		alone := size
		for ; n < len(all) && weight <= sc.budget; n++ {
			longer := interval{iv.lo, all[n].hash}
			more, w := v.weight(longer)
			if more > 2*alone*int64(n+1) || w > sc.budget {
				break
			}
			iv, size, weight = longer, more, w
		}
		if weight > sc.budget {
			err = sc.getWide(ctx, keys, all[:n], values)
		} else {
			err = sc.getLoaded(ctx, keys, all[:n], values, iv, size)
		}
		if err != nil {
			return nil, err
		}
		all = all[n:]
	}
	return values, nil
}

func (sc *scanner) getLoaded(ctx context.Context, keys []string, some []asked, values [][]byte, iv interval, size int64) error {
	l := sc.loadAll(ctx, 0, len(sc.view.segments), iv, size)
	defer l.release()
	if l.err != nil {
		return l.err
	}
	gs := &sc.groups
	if err := gs.add(sc.view, l); err != nil {
		return err
	}
	for _, a := range some {
		if len(gs.keys) == 0 {
			break
		}
		k := gs.find(a.hash, []byte(keys[a.number]), noEntry)
		if k == nil {
			continue
		}
		value := make([]byte, 0, k.size)
		gs.pieces(k, func(b []byte) bool {
			value = append(value, b...)
			return true
		})
		values[a.number] = value
	}
	return nil
}

// getWide reads keys of which a range does not fit in memory.
func (sc *scanner) getWide(ctx context.Context, keys []string, some []asked, values [][]byte) error {
	for _, a := range some {
		var value []byte
		err := sc.streamKey(ctx, sc.each, []byte(keys[a.number]), func(c partd.Chunk, _ error) bool {
			value = append(value, c.Data...)
			return true
		})
		if err != nil {
			return err
		}
		values[a.number] = append(values[a.number], value...)
	}
	return nil
}

// Open returns a reader of a value; see [partd.Opener]. A value that does not fit in
// memory is read from the bucket while you consume it.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	err := partd.CheckKeys("open", []string{key})
	if err != nil {
		return nil, err
	}
	v, err := s.current(ctx)
	if err != nil {
		return nil, &partd.Error{Op: "open", Key: key, HasKey: true, Err: err}
	}
	next, stop := iter.Pull2(func(yield func([]byte, error) bool) {
		sc := &scanner{store: s, view: v}
		err := sc.streamKey(ctx, sc.each, []byte(key), func(c partd.Chunk, _ error) bool { return yield(c.Data, nil) })
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, &partd.Error{Op: "read", Key: key, HasKey: true, Err: err})
		}
	})
	return &valueReader{store: s, next: next, stop: stop}, nil
}

// valueReader reads the chunks of a value.
type valueReader struct {
	store  *Store
	next   func() ([]byte, error, bool)
	stop   func()
	buf    bytes.Reader
	err    error
	closed bool
}

func (r *valueReader) Read(p []byte) (int, error) {
	switch {
	case r.closed || r.store.closed.Load():
		return 0, partd.ErrClosed
	case len(p) == 0:
		return 0, nil
	}
	for r.buf.Len() == 0 {
		if r.err != nil {
			return 0, r.err
		}
		b, err, more := r.next()
		if !more {
			err = io.EOF
		}
		r.err = err
		r.buf.Reset(b)
	}
	return r.buf.Read(p)
}

func (r *valueReader) Close() error {
	r.closed = true
	r.stop()
	return nil
}
