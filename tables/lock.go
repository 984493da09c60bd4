package tables

import (
	"context"
	"encoding/hex"
	"errors"
	"path/filepath"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Lock is a lock on a table's name. It is held until Unlock.
type Lock struct {
	unlock func() error // nil for the zero Lock
}

// Lock acquires the lock for the table's name in its bucket. It waits until nobody else holds it. The lock excludes
// other goroutines, other processes on this machine, and clients of servers in those processes. If the tables are in an
// object store, it excludes only processes that share the catalog's directory or, if the catalog is in PostgreSQL, the
// CacheDir. Locks are advisory: they do not restrict access to the table, which need not exist. The lock is released by
// Unlock or the end of the process.
func (t *Table) Lock(ctx context.Context) (_ *Lock, err error) {
	defer wrapError(&err, "lock", t.Bucket().Name(), t.Name())
	if _, err := t.checkWritable(); err != nil {
		return nil, err
	}
	s := t.store()
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.localDir, "locks")
	if err := s.hooks.FS.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	sum := xxh3.HashString128(t.Bucket().Name() + "\x00" + t.Name()).Bytes()
	path := filepath.Join(dir, hex.EncodeToString(sum[:]))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.commits.Context(), func() { cancel(canceled.Failure(ErrClosed)) })
	defer stop()
	l, err := vfs.WaitLock(ctx, s.hooks.FS, path, true)
	if err != nil {
		return nil, err
	}
	return &Lock{sync.OnceValue(func() error { return errors.Join(s.hooks.FS.Remove(path), l.Unlock()) })}, nil
}

// Unlock releases the lock. Further calls do nothing.
func (l *Lock) Unlock() error {
	if l == nil || l.unlock == nil {
		return nil
	}
	return l.unlock()
}
