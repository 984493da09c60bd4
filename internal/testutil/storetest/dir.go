// Package storetest has helpers for tests of stores that package partdtest does not have, because they are not for
// users.
package storetest

import (
	"cmp"
	"context"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Dir is an open directory of package filedir as a [partd.Partd], for tests that need hooks or a simulated file system.
// Other tests use [partd.OpenFile]. Unlike [partd.File], it does not check keys and values.
type Dir struct{ *filedir.Dir }

// OpenDir opens a directory. Nil options mean the defaults.
func OpenDir(fsys vfs.FS, dir string, opts *partd.FileOptions, hooks filedir.Hooks) (*Dir, error) {
	opts = cmp.Or(opts, new(partd.FileOptions))
	corrupt := func(path string, offset int64, err error) error {
		return &partd.CorruptError{Path: path, Offset: offset, Err: err}
	}
	d, err := filedir.Open(fsys, dir, filedir.Options{Sync: opts.Sync, MaxOpenFiles: opts.MaxOpenFiles, Hooks: hooks, Corrupt: corrupt})
	return &Dir{d}, err
}

// write calls do with the directory's lock held, and returns its result.
func write[T any](ctx context.Context, s *Dir, do func(tx filedir.Tx) (T, error)) (result T, err error) {
	err = s.Write(ctx, func(tx filedir.Tx) error {
		result, err = do(tx)
		return err
	})
	return result, err
}

func change(ctx context.Context, tx filedir.Tx, op partd.Operation) error {
	switch op.Change {
	case partd.ChangeAppend:
		at := func(i int) (string, []byte) { return op.Entries[i].Key, op.Entries[i].Value }
		return tx.Append(ctx, filedir.Entries{Len: len(op.Entries), At: at})
	case partd.ChangeDelete:
		return tx.Delete(ctx, op.Keys)
	case partd.ChangeDrop:
		return tx.Drop(ctx)
	}
	return tx.Set(ctx, op.Entries[0].Key, op.Entries[0].Value, op.Change == partd.ChangeSetOnce)
}

// Change makes a change without a tag.
func (s *Dir) Change(ctx context.Context, c partd.Change, entries []partd.Entry, keys ...string) error {
	return s.Write(ctx, func(tx filedir.Tx) error {
		return change(ctx, tx, partd.Operation{Change: c, Entries: entries, Keys: keys})
	})
}

func (s *Dir) Append(ctx context.Context, entries ...partd.Entry) error {
	return s.Change(ctx, partd.ChangeAppend, entries)
}

func (s *Dir) Set(ctx context.Context, key string, value []byte) error {
	return s.Change(ctx, partd.ChangeSet, []partd.Entry{{Key: key, Value: value}})
}

func (s *Dir) SetOnce(ctx context.Context, key string, value []byte) error {
	return s.Change(ctx, partd.ChangeSetOnce, []partd.Entry{{Key: key, Value: value}})
}

func (s *Dir) Delete(ctx context.Context, keys ...string) error {
	return s.Change(ctx, partd.ChangeDelete, nil, keys...)
}

func (s *Dir) Drop(ctx context.Context) error { return s.Change(ctx, partd.ChangeDrop, nil) }

func (s *Dir) Sync(ctx context.Context) error {
	return s.Write(ctx, func(tx filedir.Tx) error { return tx.Sync(ctx) })
}

func (s *Dir) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	return s.Dir.Get(ctx, keys)
}

func (s *Dir) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	return write(ctx, s, func(tx filedir.Tx) ([][]byte, error) { return tx.Pop(ctx, keys) })
}

func (s *Dir) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	return s.Dir.Open(ctx, key, func(_ string, err error) error { return err })
}

func (s *Dir) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		err := s.Dir.Scan(ctx, nil, func(key string, offset int64, data []byte, last bool) bool {
			return yield(partd.Chunk{Key: key, Offset: offset, Data: data, Last: last}, nil)
		})
		if err != nil {
			yield(partd.Chunk{}, err)
		}
	}
}

func (s *Dir) NewSession(ctx context.Context) (uint64, error) {
	return write(ctx, s, filedir.Tx.NewSession)
}

func (s *Dir) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	return write(ctx, s, func(tx filedir.Tx) (bool, error) {
		return tx.Apply(tag.Session, sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}, func() error { return change(ctx, tx, op) })
	})
}
