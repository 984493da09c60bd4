package partd

import (
	"context"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/keymap"
	"github.com/go-partd/partd/internal/slab"
)

const (
	dictShardBits = 4
	dictShards    = 1 << dictShardBits
)

// Dict is a store in memory. It is sharded by key, so that goroutines seldom
// wait for each other; a value is a list of chunks and is not moved as it
// grows; and the memory of deleted keys is used again.
//
// Close gives the memory back. What was stored is lost with the process, and so
// are the sessions of Apply. The zero value is an empty store, too.
type Dict struct {
	made sync.Once
	seed maphash.Seed
	data slab.Slab // the values and the long keys of all shards, so that what one frees another can use
	// gate is held shared by every operation, and exclusively by Drop and Close,
	// so that a batch is dropped whole or not at all. Locks are taken in this
	// order: a session's, gate, that of dictSessions or of one shard, the slab's.
	gate    sync.RWMutex
	closed  bool
	shards  [dictShards]dictShard
	batches sync.Pool // of *dictBatch

	sessions dictSessions
}

// dictShard holds the keys with one value of the first bits of their hash.
type dictShard struct {
	mu    sync.RWMutex // taken under the gate, never with another shard's
	keys  keymap.Map[slab.Chain]
	data  *slab.Slab
	bytes int64 // sum of the lengths of the values
	// index is the memory that keys takes; unlike the rest it may be read without mu.
	index atomic.Int64
	_     [64]byte // keeps the shards' locks on different cache lines
}

// NewDict returns an empty store in memory.
func NewDict() *Dict {
	d := new(Dict)
	d.made.Do(d.begin)
	return d
}

func (d *Dict) begin() {
	d.seed = maphash.MakeSeed()
	d.batches.New = func() any { return new(dictBatch) }
	for i := range d.shards {
		d.shards[i].data = &d.data
		d.shards[i].keys.Strings = &d.data
	}
}

// enter begins an operation on keys; leave ends it if enter returned nil.
func (d *Dict) enter(ctx context.Context, op string, keys ...string) error {
	if err := CheckKeys(op, keys); err != nil {
		return err
	}
	if err := canceled.Err(ctx); err != nil {
		return d.fail(op, err)
	}
	d.made.Do(d.begin)
	d.gate.RLock()
	if d.closed {
		d.gate.RUnlock()
		return d.fail(op, ErrClosed)
	}
	return nil
}

func (d *Dict) leave() { d.gate.RUnlock() }

// fail returns the error of an operation, which names what kind of store it is.
func (d *Dict) fail(op string, err error) error { return &Error{Op: op, Path: "Dict", Err: err} }

func (d *Dict) shard(key string) (*dictShard, uint64) {
	hash := keymap.Hash(d.seed, key)
	return &d.shards[hash>>(64-dictShardBits)], hash
}

// Get returns copies of the values.
func (d *Dict) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := d.enter(ctx, "get", keys...); err != nil {
		return nil, err
	}
	defer d.leave()
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = d.appendRange(nil, key, 0, math.MaxInt64)
	}
	return values, nil
}

// HasKey reports whether the key exists.
func (d *Dict) HasKey(ctx context.Context, key string) (bool, error) {
	if err := d.enter(ctx, "has", key); err != nil {
		return false, err
	}
	defer d.leave()
	_, exists := d.appendRange(nil, key, 0, 0)
	return exists, nil
}

// appendRange appends up to n bytes of the value of a key, from offset on, to
// dst. It reports whether there is the key.
func (d *Dict) appendRange(dst []byte, key string, offset, n int64) (_ []byte, exists bool) {
	s, hash := d.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	id := s.keys.Find(hash, key)
	if id == 0 {
		return dst, false
	}
	value := s.keys.Val(id)
	n = max(0, min(n, value.Len-offset))
	if dst == nil {
		dst = make([]byte, 0, n)
	}
	return s.data.AppendRange(dst, value, offset, n), true
}

// Set replaces the value of a key.
func (d *Dict) Set(ctx context.Context, key string, value []byte) error {
	return d.set(ctx, "set", key, value, true)
}

// SetOnce sets a key that does not exist.
func (d *Dict) SetOnce(ctx context.Context, key string, value []byte) error {
	return d.set(ctx, "set once", key, value, false)
}

func (d *Dict) set(ctx context.Context, op, key string, value []byte, replace bool) error {
	if _, err := CheckEntries(op, []Entry{{key, value}}); err != nil {
		return err
	}
	if err := d.enter(ctx, op); err != nil {
		return err
	}
	defer d.leave()
	s, hash := d.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.keys.Find(hash, key)
	switch {
	case id == 0:
		id = s.keys.Insert(hash, key)
	case !replace:
		return nil
	}
	old := s.keys.Val(id)
	s.bytes += int64(len(value)) - old.Len
	s.data.Free(old)
	s.data.Append(old, value)
	s.count()
	return nil
}

// Delete removes keys.
func (d *Dict) Delete(ctx context.Context, keys ...string) error {
	if err := d.enter(ctx, "delete", keys...); err != nil {
		return err
	}
	for _, key := range keys {
		s, hash := d.shard(key)
		s.mu.Lock()
		s.remove(s.keys.Find(hash, key))
		s.mu.Unlock()
	}
	d.leave()
	d.trim()
	return nil
}

// trim gives the memory of an empty store back, if it is more than a little.
func (d *Dict) trim() {
	const little = 1 << 20
	if d.data.Used() > 0 || d.footprint() < little {
		return // not empty, as far as can be told without locks
	}
	d.gate.Lock()
	defer d.gate.Unlock()
	for i := range d.shards {
		if d.shards[i].keys.Len() > 0 {
			return
		}
	}
	d.reset()
}

// Pop returns the values of keys and removes the keys.
func (d *Dict) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := d.enter(ctx, "pop", keys...); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	first := make(map[string]int, len(keys))
	for i, key := range keys {
		if j, again := first[key]; again {
			values[i] = slices.Clone(values[j])
			continue
		}
		first[key] = i
		s, hash := d.shard(key)
		s.mu.Lock()
		if id := s.keys.Find(hash, key); id != 0 {
			value := s.keys.Val(id)
			values[i] = s.data.AppendRange(make([]byte, 0, value.Len), value, 0, value.Len)
			s.remove(id)
		}
		s.mu.Unlock()
	}
	d.leave()
	d.trim()
	return values, nil
}

func (s *dictShard) remove(id keymap.ID) {
	if id == 0 {
		return
	}
	value := s.keys.Val(id)
	s.bytes -= value.Len
	s.data.Free(value)
	s.keys.Delete(id)
	s.keys.Compact()
	s.count()
}

// count publishes the memory that keys takes.
func (s *dictShard) count() { s.index.Store(s.keys.Footprint()) }

// Drop removes every key and gives their memory back.
func (d *Dict) Drop(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return d.fail("drop", err)
	}
	d.made.Do(d.begin)
	d.gate.Lock()
	defer d.gate.Unlock()
	if d.closed {
		return d.fail("drop", ErrClosed)
	}
	d.reset()
	return nil
}

// Close gives the memory back; it never fails.
func (d *Dict) Close() error {
	d.made.Do(d.begin)
	d.gate.Lock()
	defer d.gate.Unlock()
	d.closed = true
	d.reset()
	return nil
}

// reset empties every shard. The caller holds the gate exclusively.
func (d *Dict) reset() {
	for i := range d.shards {
		s := &d.shards[i]
		s.keys.Reset()
		s.bytes = 0
		s.count()
	}
	d.data.Reset()
}

// Stat counts keys, bytes, and the memory taken.
func (d *Dict) Stat(ctx context.Context) (Stats, error) {
	if err := d.enter(ctx, "stat"); err != nil {
		return Stats{}, err
	}
	defer d.leave()
	var st Stats
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.RLock()
		st.Keys += int64(s.keys.Len())
		st.Bytes += s.bytes
		s.mu.RUnlock()
	}
	st.Memory = d.footprint()
	return st, nil
}

// MemoryUsed returns the bytes of memory in use for keys and values. Memory
// that deleted values left, and that later ones will use, does not count.
func (d *Dict) MemoryUsed() int64 { return d.indexMemory() + d.data.Used() }

// footprint returns the bytes that the store has taken from the heap.
func (d *Dict) footprint() int64 { return d.indexMemory() + d.data.Footprint() }

func (d *Dict) indexMemory() int64 {
	var n int64
	for i := range d.shards {
		n += d.shards[i].index.Load()
	}
	return n
}

// Keys yields the keys shard by shard. A shard's keys are noted as its turn
// comes, so keys made meanwhile may be left out.
func (d *Dict) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return d.keysOf(ctx, "keys", 0, 1)
}

// keysOf yields the keys of a part, which is a range of hashes, as a shard is.
func (d *Dict) keysOf(ctx context.Context, op string, part, parts int) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		var infos []KeyInfo
		for i := range d.shards {
			first := uint64(i) << (64 - dictShardBits)
			if hashPart(first, parts) > part || hashPart(first|(1<<(64-dictShardBits)-1), parts) < part {
				continue
			}
			if err := d.enter(ctx, op); err != nil {
				yield(KeyInfo{}, err)
				return
			}
			infos = d.shards[i].infos(infos[:0], part, parts)
			d.leave()
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

func (s *dictShard) infos(infos []KeyInfo, part, parts int) []KeyInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id := range s.keys.IDs {
		if hashPart(s.keys.Hash(id), parts) == part {
			infos = append(infos, KeyInfo{Key: string(s.keys.Key(id)), Size: s.keys.Val(id).Len})
		}
	}
	return infos
}

// Scan yields each key's value as one chunk, in the order of Keys. Beside the
// store it needs memory for the largest value.
func (d *Dict) Scan(ctx context.Context) iter.Seq2[Chunk, error] { return d.ScanPart(ctx, 0, 1) }

// ScanPart yields what Scan yields of the keys of a part, and looks at the shards
// alone that hold some. Another Dict divides the same keys differently.
func (d *Dict) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := CheckPart(part, parts); err != nil {
		return failedScan(err)
	}
	return func(yield func(Chunk, error) bool) {
		buf := []byte{}
		for info, err := range d.keysOf(ctx, "scan", part, parts) {
			if err == nil {
				err = d.enter(ctx, "scan")
			}
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			var exists bool
			buf, exists = d.appendRange(buf[:0], info.Key, 0, math.MaxInt64)
			d.leave()
			if !exists {
				continue // deleted meanwhile
			}
			if !yield(Chunk{Key: info.Key, Data: buf, Last: true}, nil) {
				return
			}
		}
	}
}
