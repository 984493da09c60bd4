package storekit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/layer"
)

// Hooks are the functions that see every value on its way through a [Layer]. Both may be called
// concurrently. A nil hook passes values unchanged.
type Hooks struct {
	// Name names the layer in errors.
	Name string
	// In returns what to store when value is appended or set: value itself, or bytes that it appends to
	// dst, which is empty. In must not change or retain value. If the operation fails later, nothing is
	// stored. The result for an empty append is not stored either, because an empty append changes nothing.
	In func(ctx context.Context, key string, dst, value []byte) ([]byte, error)
	// Out returns a reader of a key's value, given a reader of the key's stored bytes: the
	// concatenated results of In. If the key does not exist, stored is empty, and the reader must
	// return io.EOF. If the reader is an io.Closer, the layer closes it when no more reads will
	// follow. It must not use stored after that, so Close must stop any goroutine of the reader.
	//
	// To be faster, the reader may have a method Size() (int64, error), which returns the length of
	// the value without delivering it, and ReadAll() ([]byte, error) for values in memory. stored
	// has a method Next() ([]byte, error), which returns the next bytes without copying them. They
	// are valid until the next call.
	Out func(ctx context.Context, key string, stored io.Reader) io.Reader
	// SameSize promises that In keeps the length of each value. Keys and Stat then read no values.
	SameSize bool
}

// Layer is a store over another store, for embedding in your own layer. It has every ability. All
// values written pass through Hooks.In, and all values read pass through Hooks.Out. If the store
// beneath lacks an ability, the error wraps errors.ErrUnsupported. Your layer may decline an
// ability in the same way: it replaces the method with one that returns such an error. Package
// partd's functions then fall back to other methods, as they do if the method is missing.
type Layer struct {
	hooks   Hooks
	store   partd.Partd
	batches sync.Pool // holds *batch values
	windows sync.Pool // holds *[]byte values of windowBytes each
	streams sync.Pool // holds *stream values
}

// NewLayer returns a layer over a store. Closing the layer closes the store. If store is nil, every
// operation fails.
func NewLayer(store partd.Partd, hooks Hooks) Layer { return Layer{store: store, hooks: hooks} }

// Unwrap returns the store beneath.
func (l *Layer) Unwrap() partd.Partd { return l.store }

func (l *Layer) inner() partd.Partd { return layer.StoreOrFailing(l.store) }

// path returns the layer's name, which errors contain in place of a path.
func (l *Layer) path() string { return strings.TrimPrefix(l.hooks.Name+" layer", " ") }

// keyError adds the operation, the key and the layer's name to an error.
func (l *Layer) keyError(op, key string, err error) error {
	return &partd.Error{Op: op, Key: key, HasKey: true, Path: l.path(), Err: err}
}

func (l *Layer) unsupportedError(op string) error {
	return &partd.Error{Op: op, Path: l.path(), Err: fmt.Errorf("%T: %w", l.inner(), errors.ErrUnsupported)}
}

// Append adds each entry's value to the end of its key's value.
func (l *Layer) Append(ctx context.Context, entries ...partd.Entry) error {
	return l.write(ctx, "append", true, entries, func(stored []partd.Entry) error { return l.inner().Append(ctx, stored...) })
}

// Set replaces the value of a key. An empty value is stored as In returns it.
func (l *Layer) Set(ctx context.Context, key string, value []byte) error {
	return l.write(ctx, "set", false, []partd.Entry{{Key: key, Value: value}}, func(stored []partd.Entry) error {
		return partd.Set(ctx, l.inner(), key, stored[0].Value)
	})
}

// SetOnce sets a key unless it exists.
func (l *Layer) SetOnce(ctx context.Context, key string, value []byte) error {
	return l.write(ctx, "set once", false, []partd.Entry{{Key: key, Value: value}}, func(stored []partd.Entry) error {
		return partd.SetOnce(ctx, l.inner(), key, stored[0].Value)
	})
}

// Apply applies a numbered operation exactly once; see [partd.Applier].
func (l *Layer) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	err = l.write(ctx, "apply", op.Change == partd.ChangeAppend, op.Entries, func(stored []partd.Entry) error {
		op.Entries = stored
		applied, err = partd.Apply(ctx, l.inner(), tag, op)
		return err
	})
	return applied, err
}

// Get returns the value of each key. The values belong to the caller.
func (l *Layer) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	stored, err := l.inner().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return l.readAll(ctx, "get", keys, stored)
}

// Pop returns the values of keys and removes the keys. It first reads the values through Hooks.Out;
// if that fails, it removes nothing. If other callers change the values during the call, reading may
// fail only after Pop has removed the keys; then the error is a *PopError with the stored bytes.
func (l *Layer) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if l.hooks.Out == nil {
		return partd.Pop(ctx, l.inner(), keys...)
	}
	previous, err := l.inner().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	values, err := l.readAll(ctx, "pop", keys, previous)
	if err != nil {
		return nil, err
	}
	stored, err := partd.Pop(ctx, l.inner(), keys...)
	if err != nil {
		return nil, err
	}
	if slices.EqualFunc(previous, stored, bytes.Equal) {
		return values, nil
	}
	// The keys are already removed, so canceling ctx must not lose their values.
	ctx = context.WithoutCancel(ctx)
	values, err = l.readAll(ctx, "pop", keys, stored)
	if err == nil {
		return values, nil
	}
	return nil, &PopError{slices.Clone(keys), stored, err, l.inner()}
}

// HasKey reports whether the key exists.
func (l *Layer) HasKey(ctx context.Context, key string) (bool, error) {
	return partd.Has(ctx, l.inner(), key)
}

// Delete removes keys.
func (l *Layer) Delete(ctx context.Context, keys ...string) error {
	return partd.Delete(ctx, l.inner(), keys...)
}

// Drop removes every key.
func (l *Layer) Drop(ctx context.Context) error { return l.inner().Drop(ctx) }

// Flush flushes the underlying store. The layer itself buffers nothing.
func (l *Layer) Flush(ctx context.Context) error { return partd.Flush(ctx, l.inner()) }

// Sync syncs the underlying store.
func (l *Layer) Sync(ctx context.Context) error { return partd.Sync(ctx, l.inner()) }

// Close closes the underlying store.
func (l *Layer) Close() error {
	c, ok := l.inner().(io.Closer)
	if !ok {
		return l.unsupportedError("close")
	}
	return c.Close()
}

// NewSession starts a session for numbered operations; see [partd.Applier].
func (l *Layer) NewSession(ctx context.Context) (uint64, error) {
	if a, ok := l.inner().(partd.Applier); ok {
		return a.NewSession(ctx)
	}
	return 0, l.unsupportedError("new session")
}

// EndSession ends a session; see [partd.Applier].
func (l *Layer) EndSession(ctx context.Context, session uint64) error {
	if a, ok := l.inner().(partd.Applier); ok {
		return a.EndSession(ctx, session)
	}
	return l.unsupportedError("end session")
}

// SessionToken returns a session's secret token; see [partd.SessionGuard].
func (l *Layer) SessionToken(ctx context.Context, session uint64) (partd.SessionToken, error) {
	if g, ok := l.inner().(partd.SessionGuard); ok {
		return g.SessionToken(ctx, session)
	}
	return partd.SessionToken{}, l.unsupportedError("session token")
}

// CheckSession returns an error unless the token belongs to the session.
func (l *Layer) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	if g, ok := l.inner().(partd.SessionGuard); ok {
		return g.CheckSession(ctx, session, token)
	}
	return l.unsupportedError("check session")
}

// Scan yields the chunks of all values; see [partd.Scanner].
func (l *Layer) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return l.readChunks(ctx, partd.Scan(ctx, l.inner()))
}

// ScanPart is like Scan, but yields only the keys in one of several parts; see [partd.PartScanner].
func (l *Layer) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return l.readChunks(ctx, partd.ScanPart(ctx, l.inner(), part, parts))
}

// Keys yields each key with the size of its value. Unless Hooks.SameSize is set, it must read all
// values.
func (l *Layer) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	if l.keepsSizes() {
		return partd.Keys(ctx, l.inner())
	}
	return func(yield func(partd.KeyInfo, error) bool) {
		scratch := l.getWindow()
		defer l.windows.Put(scratch)
		s := &stream{layer: l, ctx: ctx, op: "keys"}
		for v, err := range partd.Values(partd.Scan(ctx, l.inner())) {
			info := partd.KeyInfo{Key: v.Key}
			if err == nil {
				info.Size, err = s.size(v, (*scratch)[:windowBytes])
			}
			if err != nil {
				yield(partd.KeyInfo{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Stat describes the store beneath, but counts the keys and the bytes that Keys yields.
func (l *Layer) Stat(ctx context.Context) (partd.Stats, error) {
	stats, err := partd.Stat(ctx, l.inner())
	if err != nil || l.keepsSizes() {
		return stats, err
	}
	counts, err := partd.Stat(ctx, struct {
		partd.Partd
		partd.Lister
	}{l, l})
	stats.Keys, stats.Bytes = counts.Keys, counts.Bytes
	return stats, err
}

// ReaderMemory returns the memory that an open reader and a listing of keys use, in bytes.
func (l *Layer) ReaderMemory() (reader, listing int64) {
	reader, listing = ReaderMemory(l.inner())
	return reader + windowBytes, listing + 2*windowBytes
}

func (l *Layer) keepsSizes() bool { return l.hooks.SameSize || l.hooks.Out == nil }

// endedError returns an error if ctx has ended.
func (l *Layer) endedError(ctx context.Context, op string) error {
	if err := canceled.Err(ctx); err != nil {
		return &partd.Error{Op: op, Path: l.path(), Err: err}
	}
	return nil
}
