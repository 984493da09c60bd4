package partd

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/go-partd/partd/internal/keymap"
)

// perKey is what an Append is expected to need for an entry beside its value,
// in bytes: a record in the index and one in the fast store. It only decides
// who may begin; the budget is kept by what the stores say that they use.
const perKey = 16

// bufferKey is what a Buffer knows of a key.
type bufferKey struct {
	size  int64  // bytes in the fast store
	moved int64  // of these, from the start, bytes that count no more: the slow store has them, or replaced them
	pins  uint32 // operations under way that need the key to stay where it is
	want  uint16 // operations that wait to hold the key
	held  bool   // an operation has the key for itself
	doubt bool   // the slow store could not tell whether it took some of the key's bytes
}

// bufferPart is a key that an operation has pinned or holds, as it was then.
type bufferPart struct {
	id          keymap.ID // 0: pinned, but not in the fast store
	key         string
	size, moved int64
	again       bool // the same key stands earlier in the list of those held
}

// bufferBatch is the working memory of one Append.
type bufferBatch struct {
	hashes []uint64
	ids    []keymap.ID
}

func (batch *bufferBatch) hash(seed maphash.Seed, entries []Entry) {
	if cap(batch.hashes) < len(entries) {
		batch.hashes = make([]uint64, len(entries))
		batch.ids = make([]keymap.ID, len(entries))
	}
	batch.hashes = batch.hashes[:len(entries)]
	batch.ids = batch.ids[:len(entries)]
	for i := range entries {
		batch.hashes[i] = keymap.Hash(seed, entries[i].Key)
	}
}

// used returns the bytes that count against the budget.
func (b *Buffer) used() int64 {
	var fast int64
	if m, ok := b.fast.(MemoryUser); ok {
		fast = m.MemoryUsed()
	} else {
		fast = b.bytes + int64(b.index.Len())*128
	}
	return fast + b.index.Used() + b.strings.Used() + b.admitted
}

// opClose is the operation of Close, which goes on when no other may begin.
const opClose = "close"

// check returns the error of an operation that cannot begin.
func (b *Buffer) check(ctx context.Context, op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checkLocked(ctx, op)
}

func (b *Buffer) checkLocked(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return &Error{Op: op, Err: err}
	}
	if b.closed || b.closing && op != opClose {
		return &Error{Op: op, Err: ErrClosed}
	}
	return nil
}

// wait waits until something changed. The caller holds mu and looks again.
func (b *Buffer) wait(ctx context.Context) {
	b.waiters++
	changed := b.changed
	b.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	b.mu.Lock()
	b.waiters--
}

// wake lets everyone who waits look again. The caller holds mu.
func (b *Buffer) wake() {
	if b.waiters > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// admit waits until there is room for a batch and none of its keys is held;
// then it pins the keys and counts the entries as if they were in the fast
// store already. settle is called for each batch that was admitted.
func (b *Buffer) admit(ctx context.Context, entries []Entry, batch *bufferBatch, need int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	failures := b.failures
	for {
		if err := b.checkLocked(ctx, "append"); err != nil {
			return err
		}
		full := b.index.Len() > 0 && b.used()+need > b.memory
		if full {
			if b.failures != failures {
				return clean("append", fmt.Errorf("the memory budget is full, and flushing failed: %w", b.failure))
			}
			b.startFlush()
		}
		if !full && !b.dropping {
			free, err := b.pinBatch(entries, batch)
			if err != nil {
				return err
			}
			if free {
				b.active++
				b.admitted += need
				return nil
			}
		}
		b.wait(ctx)
	}
}

// pinBatch pins the keys of a batch and counts its bytes, or changes nothing
// and returns false if a key is held or in doubt.
func (b *Buffer) pinBatch(entries []Entry, batch *bufferBatch) (bool, error) {
	for i := range entries {
		id := b.index.Find(batch.hashes[i], entries[i].Key)
		batch.ids[i] = id
		if id == 0 {
			continue
		}
		switch k := b.index.Val(id); {
		case k.doubt:
			return false, inDoubt("append", entries[i].Key)
		case k.held || k.want > 0:
			return false, nil
		}
	}
	for i := range entries {
		e := &entries[i]
		if len(e.Value) == 0 {
			batch.ids[i] = 0
			continue
		}
		if batch.ids[i] == 0 {
			// An earlier entry of the batch may have made it.
			if batch.ids[i] = b.index.Find(batch.hashes[i], e.Key); batch.ids[i] == 0 {
				batch.ids[i] = b.index.Insert(batch.hashes[i], e.Key)
			}
		}
		k := b.index.Val(batch.ids[i])
		k.pins++
		k.size += int64(len(e.Value))
		b.bytes += int64(len(e.Value))
	}
	return true, nil
}

// settle ends an Append that was admitted: it unpins its keys, and takes its
// bytes out of the count if the fast store did not take them.
func (b *Buffer) settle(entries []Entry, batch *bufferBatch, need int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	failed := err != nil && !errors.Is(err, ErrUnknownOutcome)
	for i, id := range batch.ids {
		if id == 0 {
			continue
		}
		k := b.index.Val(id)
		k.pins--
		if failed {
			k.size -= int64(len(entries[i].Value))
			b.bytes -= int64(len(entries[i].Value))
		}
		b.forget(id, k)
	}
	b.admitted -= need
	if b.used() > b.memory/4*3 {
		b.startFlush()
	}
	b.end()
}

// forget removes a key from the index that has nothing in the fast store and
// that nobody needs.
func (b *Buffer) forget(id keymap.ID, k *bufferKey) {
	if *k == (bufferKey{}) {
		b.index.Delete(id)
	}
}

// end ends an operation. The caller holds mu.
func (b *Buffer) end() {
	b.active--
	b.index.Shrink()
	b.wake()
}

// pin keeps keys where they are until unpin.
func (b *Buffer) pin(ctx context.Context, op string, keys []string) ([]bufferPart, error) {
	parts := make([]bufferPart, len(keys))
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if err := b.checkLocked(ctx, op); err != nil {
			return nil, err
		}
		free := !b.dropping
		for i, key := range keys {
			id := b.index.Find(keymap.Hash(b.seed, key), key)
			parts[i] = bufferPart{id: id, key: key}
			if id == 0 {
				continue
			}
			k := b.index.Val(id)
			if k.doubt {
				return nil, inDoubt(op, key)
			}
			free = free && !k.held && k.want == 0
			parts[i].size, parts[i].moved = k.size, k.moved
		}
		if free {
			break
		}
		b.wait(ctx)
	}
	for _, p := range parts {
		if p.id != 0 {
			b.index.Val(p.id).pins++
		}
	}
	b.active++
	return parts, nil
}

func (b *Buffer) unpin(parts []bufferPart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if p.id != 0 {
			k := b.index.Val(p.id)
			k.pins--
			b.forget(p.id, k)
		}
	}
	b.end()
}

// hold waits until nobody needs the keys and takes them for the caller alone,
// all at once, so that two holders never wait for each other. A key in doubt is
// an error unless allowDoubt.
func (b *Buffer) hold(ctx context.Context, op string, keys []string, allowDoubt bool) ([]bufferPart, error) {
	parts := make([]bufferPart, len(keys))
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.checkLocked(ctx, op); err != nil {
		return nil, err
	}
	for i, key := range keys {
		hash := keymap.Hash(b.seed, key)
		id := b.index.Find(hash, key)
		if id == 0 {
			id = b.index.Insert(hash, key)
		}
		parts[i] = bufferPart{id: id, key: key}
		b.index.Val(id).want++
	}
	err := b.awaitHold(ctx, op, parts, allowDoubt)
	for i := range parts {
		p := &parts[i]
		k := b.index.Val(p.id)
		k.want--
		if err != nil {
			b.forget(p.id, k)
			continue
		}
		p.size, p.moved, p.again = k.size, k.moved, k.held
		k.held = true
	}
	if err != nil {
		b.wake()
		return nil, err
	}
	b.active++
	return parts, nil
}

// awaitHold waits until nobody needs the keys.
func (b *Buffer) awaitHold(ctx context.Context, op string, parts []bufferPart, allowDoubt bool) error {
	for {
		if err := b.checkLocked(ctx, op); err != nil {
			return err
		}
		free := !b.dropping
		for _, p := range parts {
			k := b.index.Val(p.id)
			if k.doubt && !allowDoubt {
				return inDoubt(op, p.key)
			}
			free = free && !k.held && k.pins == 0
		}
		if free {
			return nil
		}
		b.wait(ctx)
	}
}

func (b *Buffer) release(parts []bufferPart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		k := b.index.Val(p.id)
		if k.held { // false the second time for a key given twice
			k.held = false
			b.forget(p.id, k)
		}
	}
	b.end()
}

// errInDoubt is why a key cannot be used.
var errInDoubt = errors.New("the slow store could not tell whether it took a part of this key when the buffer was flushed: set, delete or drop it")

func inDoubt(op, key string) error { return &Error{Op: op, Key: key, HasKey: true, Err: errInDoubt} }

// clean returns the error of an operation that changed nothing, because of the
// error of another that may have: it must not look as if a retry could double.
func clean(op string, err error) error {
	if errors.Is(err, ErrUnknownOutcome) {
		err = errors.New(err.Error())
	}
	return &Error{Op: op, Err: err}
}
