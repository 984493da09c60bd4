package partd

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/keymap"
)

const (
	dictShardBits = 4
	dictShards    = 1 << dictShardBits
)

// Dict is a store in memory. It is sharded by key, so that goroutines rarely wait for
// each other. The memory of deleted keys is reused.
//
// A Dict uses at most 256 GiB. Above that, changes fail with an error that wraps [ErrTooLarge].
//
// Close releases the memory. The data and the sessions are lost when the process ends. The zero
// value is an empty store.
type Dict struct {
	setUpOnce sync.Once
	seed      maphash.Seed
	data      keymap.Slab // the values and long keys of all shards
	// Every operation read-locks gate; Drop and Close write-lock it, so that a batch is
	// dropped whole or not at all. The lock order is: a session's lock, gate, the lock
	// of dictSessions or of one shard, the slab's lock.
	gate    sync.RWMutex
	closed  bool
	shards  [dictShards]dictShard
	batches sync.Pool // reusable *dictBatch values

	sessions dictSessions
}

// dictShard holds the keys whose hashes share their first bits.
type dictShard struct {
	mu         sync.RWMutex // taken after Dict.gate; only one shard's mu is held at a time
	keys       keymap.Map[keymap.Chain]
	data       *keymap.Slab
	bytes      int64        // total length of the values
	indexBytes atomic.Int64 // memory used by keys; can be read without mu
	_          [64]byte     // keeps the shards' locks on different cache lines
}

// NewDict returns an empty store in memory.
func NewDict() *Dict {
	d := new(Dict)
	d.setUpOnce.Do(d.setUp)
	return d
}

func (d *Dict) setUp() {
	d.seed = maphash.MakeSeed()
	d.batches.New = func() any { return new(dictBatch) }
	for i := range d.shards {
		d.shards[i].data = &d.data
		d.shards[i].keys.Strings = &d.data
	}
}

// begin starts an operation on keys. If it returns nil, the caller must call end afterwards.
func (d *Dict) begin(ctx context.Context, op string, keys ...string) error {
	if err := checkKeys(op, keys); err != nil {
		return err
	}
	if err := canceled.Err(ctx); err != nil {
		return d.fail(op, err)
	}
	d.setUpOnce.Do(d.setUp)
	d.gate.RLock()
	if d.closed {
		d.gate.RUnlock()
		return d.fail(op, ErrClosed)
	}
	return nil
}

func (d *Dict) end() { d.gate.RUnlock() }

// errDictFull means that the memory of a Dict could exceed the addresses of its slab.
var errDictFull = fmt.Errorf("%w: a Dict can use %d GiB of memory, which it frees when its last key is deleted: delete all keys, divide them among several Dicts with package shards, or use a store on disk",
	ErrTooLarge, keymap.MaxBytes>>30)

func (d *Dict) fail(op string, err error) error { return &Error{Op: op, Path: "Dict", Err: err} }

func (d *Dict) shard(key string) (*dictShard, uint64) {
	hash := keymap.Hash(d.seed, key)
	return &d.shards[hash>>(64-dictShardBits)], hash
}

// Get returns copies of the values.
func (d *Dict) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := d.begin(ctx, "get", keys...); err != nil {
		return nil, err
	}
	defer d.end()
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i], _ = d.appendRange(nil, key, 0, math.MaxInt64)
	}
	return values, nil
}

// CopyValue copies the value of a key to dst if the value fits. It returns the value's length, or 0 if
// the key does not exist. If the length exceeds len(dst), dst is unchanged. CopyValue allocates no
// memory, so a caller that reuses dst is faster than with Get.
func (d *Dict) CopyValue(ctx context.Context, dst []byte, key string) (length int64, err error) {
	if err := d.begin(ctx, "get", key); err != nil {
		return 0, err
	}
	defer d.end()
	s, hash := d.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	id := s.keys.Find(hash, key)
	if id == 0 {
		return 0, nil
	}
	value := s.keys.Val(id)
	if value.Len <= int64(len(dst)) {
		s.data.AppendRange(dst[:0], value, 0, value.Len)
	}
	return value.Len, nil
}

// HasKey reports whether the key exists.
func (d *Dict) HasKey(ctx context.Context, key string) (bool, error) {
	if err := d.begin(ctx, "has", key); err != nil {
		return false, err
	}
	defer d.end()
	_, exists := d.appendRange(nil, key, 0, 0)
	return exists, nil
}

// appendRange appends up to n bytes of a key's value, starting at offset, to dst. It
// reports whether the key exists.
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

// SetOnce sets a key if it does not exist.
func (d *Dict) SetOnce(ctx context.Context, key string, value []byte) error {
	return d.set(ctx, "set once", key, value, false)
}

func (d *Dict) set(ctx context.Context, op, key string, value []byte, replace bool) error {
	if _, err := checkEntries(op, []Entry{{key, value}}); err != nil {
		return err
	}
	if err := d.begin(ctx, op); err != nil {
		return err
	}
	defer d.end()
	blocks, fits := d.data.Reserve(1, int64(len(key)+len(value)))
	if !fits {
		return d.fail(op, errDictFull)
	}
	defer d.data.Unreserve(blocks)
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
	chain := s.keys.Val(id)
	s.bytes += int64(len(value)) - chain.Len
	s.data.Free(chain)
	s.data.Append(chain, value)
	s.updateIndexBytes()
	return nil
}

// Delete removes keys.
func (d *Dict) Delete(ctx context.Context, keys ...string) error {
	if err := d.begin(ctx, "delete", keys...); err != nil {
		return err
	}
	for _, key := range keys {
		s, hash := d.shard(key)
		s.mu.Lock()
		s.remove(s.keys.Find(hash, key))
		s.mu.Unlock()
	}
	d.end()
	d.trim()
	return nil
}

// trim releases the store's memory if the store is empty and holds at least minRelease bytes.
func (d *Dict) trim() {
	const minRelease = 1 << 20
	if d.data.Used() > 0 || d.footprint() < minRelease {
		return
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
	if err := d.begin(ctx, "pop", keys...); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	firstIndex := make(map[string]int, len(keys))
	for i, key := range keys {
		if j, repeated := firstIndex[key]; repeated {
			values[i] = slices.Clone(values[j])
			continue
		}
		firstIndex[key] = i
		s, hash := d.shard(key)
		s.mu.Lock()
		if id := s.keys.Find(hash, key); id != 0 {
			value := s.keys.Val(id)
			values[i] = s.data.AppendRange(make([]byte, 0, value.Len), value, 0, value.Len)
			s.remove(id)
		}
		s.mu.Unlock()
	}
	d.end()
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
	s.updateIndexBytes()
}

func (s *dictShard) updateIndexBytes() { s.indexBytes.Store(s.keys.Footprint()) }

// Drop removes every key and releases the memory.
func (d *Dict) Drop(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return d.fail("drop", err)
	}
	d.setUpOnce.Do(d.setUp)
	d.gate.Lock()
	defer d.gate.Unlock()
	if d.closed {
		return d.fail("drop", ErrClosed)
	}
	d.reset()
	return nil
}

// Close releases the memory; it never fails.
func (d *Dict) Close() error {
	d.setUpOnce.Do(d.setUp)
	d.gate.Lock()
	defer d.gate.Unlock()
	d.closed = true
	d.reset()
	return nil
}

// reset empties every shard. gate must be write-locked.
func (d *Dict) reset() {
	for i := range d.shards {
		s := &d.shards[i]
		s.keys.Reset()
		s.bytes = 0
		s.updateIndexBytes()
	}
	d.data.Reset()
}

// Stat counts keys, bytes and used memory.
func (d *Dict) Stat(ctx context.Context) (Stats, error) {
	if err := d.begin(ctx, "stat"); err != nil {
		return Stats{}, err
	}
	defer d.end()
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

// MemoryUsed returns the bytes of memory used for keys and values, excluding free space left by
// deleted keys.
func (d *Dict) MemoryUsed() int64 { return d.indexMemory() + d.data.Used() }

// footprint returns the bytes that the store has allocated, including free space.
func (d *Dict) footprint() int64 { return d.indexMemory() + d.data.Footprint() }

func (d *Dict) indexMemory() int64 {
	var n int64
	for i := range d.shards {
		n += d.shards[i].indexBytes.Load()
	}
	return n
}
