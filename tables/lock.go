package tables

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

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
func (b *Bucket) Lock(ctx context.Context, name string) (*Lock, error) {
	l, err := b.lock(ctx, name)
	if err != nil {
		return nil, &OpError{Op: "lock", Bucket: b.name, Table: name, Err: err}
	}
	return l, nil
}

func (b *Bucket) lock(ctx context.Context, name string) (*Lock, error) {
	if _, err := b.check(name); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.s.local, "locks")
	if err := b.s.hooks.fs.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	sum := xxh3.HashString128(b.name + "\x00" + name).Bytes()
	path := filepath.Join(dir, hex.EncodeToString(sum[:]))
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := b.s.tryLock(path)
		if l != nil || err != nil {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.s.done:
			return nil, ErrClosed
		case <-time.After(wait):
		}
	}
}

// tryLock returns nil where somebody else has the lock.
func (s *Store) tryLock(path string) (*Lock, error) {
	l := s.hooks.fs.NewLock(path)
	got, err := l.TryLock(true)
	if err != nil || !got {
		return nil, errors.Join(err, l.Unlock())
	}
	// Who had it before may have removed the file.
	mine, err := l.Info()
	var there vfs.Info
	if err == nil {
		there, err = s.hooks.fs.Info(path)
	}
	if err != nil || !mine.SameFile(there) {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, errors.Join(err, l.Unlock())
	}
	return &Lock{unlock: func() error { return errors.Join(s.hooks.fs.Remove(path), l.Unlock()) }}, nil
}

// Unlock gives the lock back. Another call does nothing.
func (l *Lock) Unlock() error {
	l.once.Do(func() { l.err = l.unlock() })
	return l.err
}
