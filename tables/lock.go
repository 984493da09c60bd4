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

// Lock is a lock by name that somebody has.
type Lock struct {
	unlock func() error
	once   sync.Once
	err    error
}

// Lock waits until nobody else has the lock of a name in the bucket, and takes it:
// among goroutines and processes of this machine, and clients of their servers; where
// the tables are in a bucket, those with the same Options.Catalog or CacheDir. It
// keeps nobody from a table of the name, but from its lock; there need be no such
// table. It ends with Unlock or with the process, whichever is first.
func (b *Bucket) Lock(ctx context.Context, name string) (_ *Lock, err error) {
	defer failed(&err, "lock", b.Name(), name)
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
	unpin() // it only had to tell whether the store is open
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
			cancel(canceled.Because(ErrClosed))
		case <-ctx.Done():
		}
	}()
	l, err := vfs.WaitLock(ctx, b.store().hooks.fs, path, true)
	if err != nil {
		return nil, err
	}
	return &Lock{unlock: func() error { return errors.Join(b.store().hooks.fs.Remove(path), l.Unlock()) }}, nil
}

// Unlock gives the lock back. Another call does nothing.
func (l *Lock) Unlock() error {
	if l == nil {
		return nil
	}
	l.once.Do(func() {
		if l.unlock != nil {
			l.err = l.unlock()
		}
	})
	return l.err
}
