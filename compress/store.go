package compress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/layer"
)

func (s *Store) innerStore() partd.Partd { return layer.StoreOrFailing(s.inner) }

// name returns the layer's name, which errors contain in place of a path.
func (s *Store) name() string { return cmp.Or(string(s.format), "compression") + " layer" }

func (s *Store) batch() *batch {
	if b, ok := s.batches.Get().(*batch); ok {
		return b
	}
	return new(batch)
}

// Append compresses each entry's value and appends it. It neither retains nor changes the
// entries.
func (s *Store) Append(ctx context.Context, entries ...partd.Entry) error {
	b := s.batch()
	defer s.release(b)
	compressed, err := s.compress(ctx, "append", b, entries)
	if err != nil {
		return err
	}
	return s.innerStore().Append(ctx, compressed...)
}

// Get returns the decompressed value of each key, which belongs to the caller.
func (s *Store) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	stored, err := s.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return s.decompress(ctx, "get", keys, stored)
}

// HasKey reports whether the key exists.
func (s *Store) HasKey(ctx context.Context, key string) (bool, error) {
	return partd.Has(ctx, s.innerStore(), key)
}

// Drop removes every key.
func (s *Store) Drop(ctx context.Context) error { return s.innerStore().Drop(ctx) }

// Set replaces the value of a key. An empty value is stored as no bytes at all. Set
// does not retain the value.
func (s *Store) Set(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set", key, value, partd.Set)
}

// SetOnce sets a key if it does not exist yet.
func (s *Store) SetOnce(ctx context.Context, key string, value []byte) error {
	return s.set(ctx, "set once", key, value, partd.SetOnce)
}

func (s *Store) set(ctx context.Context, op, key string, value []byte,
	setStored func(context.Context, partd.Partd, string, []byte) error,
) error {
	b := s.batch()
	defer s.release(b)
	compressed, err := s.compress(ctx, op, b, []partd.Entry{{Key: key, Value: value}})
	if err != nil {
		return err
	}
	return setStored(ctx, s.innerStore(), key, compressed[0].Value)
}

// Delete removes keys.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	return partd.Delete(ctx, s.innerStore(), keys...)
}

// Pop returns the decompressed values of keys and removes the keys. If a value is damaged, Pop
// removes nothing. If other callers change the values during the call, Pop may find the damage only
// after removing the keys; then Pop appends the stored bytes again.
func (s *Store) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	previous, err := s.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	values, err := s.decompress(ctx, "pop", keys, previous)
	if err != nil {
		return nil, err
	}
	stored, err := partd.Pop(ctx, s.innerStore(), keys...)
	if err != nil {
		return nil, err
	}
	if slices.EqualFunc(previous, stored, bytes.Equal) {
		return values, nil
	}
	// The keys are already removed, so canceling ctx must not lose their values.
	ctx = context.WithoutCancel(ctx)
	if values, err = s.decompress(ctx, "pop", keys, stored); err == nil {
		return values, nil
	}
	restored := make([]partd.Entry, 0, len(keys))
	restoredKeys := make(map[string]bool, len(keys))
	for i, key := range keys {
		if !restoredKeys[key] {
			restoredKeys[key] = true
			restored = append(restored, partd.Entry{Key: key, Value: stored[i]})
		}
	}
	return nil, errors.Join(err, s.innerStore().Append(ctx, restored...))
}

// NewSession starts a session for numbered operations; see [partd.Applier].
func (s *Store) NewSession(ctx context.Context) (uint64, error) {
	a, ok := s.innerStore().(partd.Applier)
	if !ok {
		return 0, s.unsupportedError("new session")
	}
	return a.NewSession(ctx)
}

// EndSession ends a session; see [partd.Applier].
func (s *Store) EndSession(ctx context.Context, session uint64) error {
	a, ok := s.innerStore().(partd.Applier)
	if !ok {
		return s.unsupportedError("end session")
	}
	return a.EndSession(ctx, session)
}

// SessionToken returns the secret token of a session; see [partd.SessionGuard].
func (s *Store) SessionToken(ctx context.Context, session uint64) (partd.SessionToken, error) {
	if g, ok := s.innerStore().(partd.SessionGuard); ok {
		return g.SessionToken(ctx, session)
	}
	return partd.SessionToken{}, s.unsupportedError("session token")
}

// CheckSession returns an error unless the token belongs to the session.
func (s *Store) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	if g, ok := s.innerStore().(partd.SessionGuard); ok {
		return g.CheckSession(ctx, session, token)
	}
	return s.unsupportedError("check session")
}

// Apply applies a numbered operation exactly once; see [partd.Applier].
func (s *Store) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	b := s.batch()
	defer s.release(b)
	if op.Entries, err = s.compress(ctx, "apply", b, op.Entries); err != nil {
		return false, err
	}
	return partd.Apply(ctx, s.innerStore(), tag, op)
}

// Flush flushes the underlying store. The layer itself buffers nothing.
func (s *Store) Flush(ctx context.Context) error { return partd.Flush(ctx, s.innerStore()) }

// Sync syncs the underlying store.
func (s *Store) Sync(ctx context.Context) error { return partd.Sync(ctx, s.innerStore()) }

// Close closes the underlying store.
func (s *Store) Close() error {
	c, ok := s.innerStore().(io.Closer)
	if !ok {
		return s.unsupportedError("close")
	}
	return c.Close()
}

func (s *Store) unsupportedError(op string) error {
	return &partd.Error{Op: op, Path: s.name(), Err: fmt.Errorf("%T: %w", s.innerStore(), errors.ErrUnsupported)}
}

// parallelDo calls run for tasks 0 to n-1 on up to workers goroutines, and waits for them.
// After an error, or once ctx ends, it starts no further task.
func (s *Store) parallelDo(ctx context.Context, op string, workers, n int, run func(worker, task int) error) error {
	if workers < 2 { // avoid the allocations for goroutines
		for i := range n {
			if err := canceled.Err(ctx); err != nil {
				return &partd.Error{Op: op, Path: s.name(), Err: err}
			}
			if err := run(0, i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, workers)
	var next atomic.Int64
	runTasks := func(w int) {
		for errs[w] == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if err := canceled.Err(ctx); err != nil {
				errs[w] = &partd.Error{Op: op, Path: s.name(), Err: err}
				return
			}
			if errs[w] = run(w, i); errs[w] != nil {
				next.Store(int64(n))
			}
		}
	}
	var helpers sync.WaitGroup
	for w := 1; w < workers; w++ {
		helpers.Go(func() { runTasks(w) })
	}
	runTasks(0)
	helpers.Wait()
	return cmp.Or(errs...)
}
