package objstore

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// Get returns the values of keys; see [partd.Partd]. It makes requests for all segments, because
// each segment may contain entries of a key.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("get", keys); err != nil {
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

// keyRef is a key's hash and its index among the requested keys.
type keyRef struct {
	index int
	hash  uint64
}

func (s *Store) get(ctx context.Context, keys []string) ([][]byte, error) {
	current, err := s.flushAndRefresh(ctx)
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	refs := make([]keyRef, len(keys))
	for i, key := range keys {
		values[i] = []byte{}
		refs[i] = keyRef{i, s.format.Hash(key)}
	}
	slices.SortFunc(refs, func(a, b keyRef) int { return cmp.Compare(a.hash, b.hash) })
	reserved, release := s.scans.reserveBudget()
	defer release()
	sc := &scanner{view: current, closed: &s.closed, budget: min(reserved, maxArena), groups: groups{format: s.format}}
	for len(refs) > 0 {
		n, iv, storedSize, loadedSize := sc.firstInterval(refs)
		if loadedSize > sc.budget {
			err = sc.getByStreaming(ctx, keys, refs[:n], values)
		} else {
			err = sc.getByLoading(ctx, keys, refs[:n], values, iv, storedSize)
		}
		if err != nil {
			return nil, err
		}
		refs = refs[n:]
	}
	return values, nil
}

// firstInterval returns the interval of the first n refs' hashes, its stored size, and the memory
// that loading it can need. refs must be sorted by hash. n is above 1 only if the interval fits into
// the budget, and if reading it at once loads at most twice as many bytes as reading the keys one by
// one. The estimate assumes that each key needs as many bytes as the first.
func (sc *scanner) firstInterval(refs []keyRef) (n int, iv interval, storedSize, loadedSize int64) {
	iv = interval{refs[0].hash, refs[0].hash}
	storedSize, loadedSize = sc.view.weight(iv)
	singleSize := storedSize
	for n = 1; n < len(refs) && loadedSize <= sc.budget; n++ {
		wider := interval{iv.lo, refs[n].hash}
		newStoredSize, newLoadedSize := sc.view.weight(wider)
		if newStoredSize > 2*singleSize*int64(n+1) || newLoadedSize > sc.budget {
			break
		}
		iv, storedSize, loadedSize = wider, newStoredSize, newLoadedSize
	}
	return n, iv, storedSize, loadedSize
}

// getByLoading reads keys whose hashes are in iv, by loading the whole interval into memory.
// storedSize is the number of stored bytes to load.
func (sc *scanner) getByLoading(
	ctx context.Context, keys []string, refs []keyRef, values [][]byte, iv interval, storedSize int64,
) error {
	l := sc.loadAll(ctx, 0, len(sc.view.segments), iv, storedSize)
	defer l.release()
	if l.err != nil {
		return l.err
	}
	gs := &sc.groups
	if err := gs.load(sc.view, l); err != nil {
		return err
	}
	for _, ref := range refs {
		if len(gs.keys) == 0 {
			break
		}
		g := gs.find(ref.hash, []byte(keys[ref.index]), noEntry)
		if g == nil {
			continue
		}
		value := make([]byte, 0, g.size)
		gs.eachPiece(g, func(b []byte) bool {
			value = append(value, b...)
			return true
		})
		values[ref.index] = value
	}
	return nil
}

// getByStreaming reads keys one by one, without loading their hash ranges, which do not fit in memory.
func (sc *scanner) getByStreaming(ctx context.Context, keys []string, refs []keyRef, values [][]byte) error {
	for _, ref := range refs {
		var value []byte
		err := sc.streamKey(ctx, sc.eachEntry, []byte(keys[ref.index]), func(c partd.Chunk, _ error) bool {
			value = append(value, c.Data...)
			return true
		})
		if err != nil {
			return err
		}
		values[ref.index] = append(values[ref.index], value...)
	}
	return nil
}

// Open returns a reader of a value; see [partd.Opener]. It does not load the whole value into memory.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	err := storekit.CheckKeys("open", []string{key})
	if err != nil {
		return nil, err
	}
	current, err := s.flushAndRefresh(ctx)
	if err != nil {
		return nil, &partd.Error{Op: "open", Key: key, HasKey: true, Err: err}
	}
	next, stop := iter.Pull2(partd.Values(func(yield func(partd.Chunk, error) bool) {
		sc := &scanner{view: current, closed: &s.closed, groups: groups{format: s.format}}
		if err := sc.streamKey(ctx, sc.eachEntry, []byte(key), yield); err != nil && !errors.Is(err, errStop) {
			yield(partd.Chunk{}, &partd.Error{Op: "read", Key: key, HasKey: true, Err: err})
		}
	}))
	return &valueReader{storeClosed: &s.closed, next: next, stop: stop}, nil
}

// valueReader reads the value of a single key.
type valueReader struct {
	storeClosed *atomic.Bool
	next        func() (partd.Value, error, bool) // the first call starts the scan of the key
	stop        func()
	value       partd.Value
	started     bool
	err         error // first error, or io.EOF at the end
	closed      bool
}

func (r *valueReader) Read(p []byte) (int, error) {
	switch {
	case r.closed || r.storeClosed.Load():
		return 0, partd.ErrClosed
	case len(p) == 0:
		return 0, nil
	case !r.started:
		r.started = true
		var ok bool
		r.value, r.err, ok = r.next()
		if !ok {
			r.err = io.EOF
		}
	}
	n := 0
	if r.err == nil {
		n, r.err = r.value.Read(p)
	}
	if r.err != nil {
		r.stop() // end the scan even if the caller does not call Close
	}
	return n, r.err
}

func (r *valueReader) Close() error {
	r.closed = true
	r.stop()
	return nil
}
