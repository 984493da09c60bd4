package tables

import (
	"context"
	"encoding/hex"
	"errors"
	"path/filepath"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/vfs"
)

// Lock is a named lock that is held until Unlock.
type Lock struct {
	unlock func() error // nil for the zero Lock
}

// Lock waits until nobody else holds the lock of this name in the bucket, and acquires it. The lock excludes other
// goroutines, other processes on this machine, and clients of servers in those processes. For tables in an object
// store, it excludes only processes that share the catalog's directory or, if the catalog is in PostgreSQL, the
// CacheDir. Locks are advisory: they do not restrict access to the table of that name, which need not exist. The lock
// is released by Unlock, or when the process ends.
func (b *Bucket) Lock(ctx context.Context, name string) (_ *Lock, err error) {
	defer wrapError(&err, "lock", b.Name(), name)
	if _, err := b.check(name); err != nil {
		return nil, err
	}
	if b.store().opts.ReadOnly {
		return nil, ErrReadOnly
	}
	unpin, err := b.store().commits.Pin()
	if err != nil {
		return nil, err
	}
	unpin() // Pin was only called to check that the store is open
	dir := filepath.Join(b.store().local, "locks")
	if err := b.store().hooks.fs.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	sum := xxh3.HashString128(b.Name() + "\x00" + name).Bytes()
	path := filepath.Join(dir, hex.EncodeToString(sum[:]))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.store().commits.Done():
			cancel(canceled.Failure(ErrClosed))
		case <-ctx.Done():
		}
	}()
	l, err := vfs.WaitLock(ctx, b.store().hooks.fs, path, true)
	if err != nil {
		return nil, err
	}
	return &Lock{sync.OnceValue(func() error { return errors.Join(b.store().hooks.fs.Remove(path), l.Unlock()) })}, nil
}

// Unlock releases the lock. Further calls do nothing.
func (l *Lock) Unlock() error {
	if l == nil || l.unlock == nil {
		return nil
	}
	return l.unlock()
}
