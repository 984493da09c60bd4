package partd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

	"github.com/go-partd/partd/internal/base/sessiontab"
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// FileOptions are the options for [OpenFile]. The zero value means the defaults.
type FileOptions struct {
	// Sync makes each operation durable before it is acknowledged: the operation survives a power
	// loss. Without Sync, acknowledged data survives a crash of the process, even kill -9, but a
	// power loss can destroy the data.
	Sync bool
	// MaxOpenFiles is the number of key files kept open between operations. 0 means a quarter of
	// the process's limit on open files, but at most 8,192.
	MaxOpenFiles int
	// Logger receives messages about repairs; nil means no logging.
	Logger *slog.Logger
}

// File is a store in a directory with one file per key. Several processes can share the
// directory, including Python's partd.
//
// If a key consists of letters, digits and "-_.() ", its file has the same name as in Python.
// The file names of other keys contain a percent sign, which Python never writes. (Python
// omits other characters from the file name.)
//
// Python stores a key that is a tuple, or a string with slashes, under a path. In Go, such a
// key has the name that Python's server uses: "a-|-1" for ('a', 1). A File writes the key to
// the same path or, if a file is in the way, to a file with a percent sign in its name. While
// there are tuples that begin with "a", neither Python nor File can store a key "a".
//
// File never changes symbolic links or foreign files. If the directory contains such a file, Keys,
// Scan and Stat fail with an error that names the file, because the file may contain a key's value.
//
// Processes lock ".lock" with flock, which on network file systems may exclude only processes of one
// machine: keep the directory on a local disk. If flock excludes nobody, operations fail. A process
// keeps the lock for up to 20 milliseconds after a write, so that it need not take the lock for each
// of many small appends.
//
// Before an append changes files, it writes an undo record to the file "%undo". If the process
// dies, the next process that takes the lock removes the incomplete append, but keeps bytes that a
// Python process has appended since. If the record and the files do not match, the next process's
// operation fails with a [*CorruptError] and changes nothing. (File does not notice if Python
// appended exactly the same bytes to a file that the incomplete append had not reached.)
//
// Readers hold the lock only while they look up the lengths of values. If Python replaces a
// value (iset) at the same time, a reader may see only part of the value.
type File struct {
	dir  *filedir.Dir
	temp io.Closer // removes the directory of a temporary store; otherwise nil
}

// OpenFile opens the store in a directory and creates the directory if it is missing. If a
// process died during an operation, OpenFile completes or undoes the operation. To protect
// other files from Drop, it rejects a directory that has files but no ".lock". A directory can
// be open several times, in several processes. A read-only directory can be opened unless an
// operation must be completed or undone. A nil opts means the defaults.
func OpenFile(dir string, opts *FileOptions) (*File, error) {
	return openFile(vfs.OS{}, dir, opts, filedir.Hooks{})
}

// OpenTemp opens a temporary store in a new subdirectory of dir, or of [os.TempDir] if dir is
// empty. Close removes the subdirectory. If the process dies first, the next temporary store,
// sort or aggregation in dir removes the subdirectory.
func OpenTemp(dir string) (*File, error) {
	path, temp, err := tempdir.NewDir(dir)
	if err != nil {
		return nil, &Error{Op: "open", Path: dir, Err: err}
	}
	f, err := OpenFile(path, nil)
	if err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	f.temp = temp
	return f, nil
}

func openFile(fsys vfs.FS, dir string, opts *FileOptions, hooks filedir.Hooks) (*File, error) {
	opts = cmp.Or(opts, new(FileOptions))
	d, err := filedir.Open(fsys, dir, filedir.Options{
		Sync: opts.Sync, MaxOpenFiles: opts.MaxOpenFiles, Logger: opts.Logger, Hooks: hooks,
		Corrupt: func(path string, offset int64, err error) error {
			return &CorruptError{Path: path, Offset: offset, Err: err}
		},
	})
	if err != nil {
		return nil, &Error{Op: "open", Path: dir, Err: err}
	}
	return &File{dir: d}, nil
}

// fail returns err as an *Error, or nil if err is nil.
func (f *File) fail(op string, err error) error {
	switch e := err.(type) { // errors.As would drop the text of wrapping errors
	case nil:
		return nil
	case *Error:
		return e
	case *filedir.KeyError:
		return &Error{Op: op, Key: e.Key, HasKey: true, Path: e.Path, Err: e.Err}
	}
	return &Error{Op: op, Path: f.dir.Path(), Err: err}
}

func (f *File) write(ctx context.Context, op string, do func(filedir.Tx) error) error {
	return f.fail(op, f.dir.Write(ctx, do))
}

// Close closes the directory and all files. Later operations fail with an error that wraps
// [ErrClosed]; readers that Open returned keep working.
func (f *File) Close() error {
	err := f.dir.Close()
	if f.temp != nil {
		err = errors.Join(err, f.temp.Close())
	}
	return f.fail("close", err)
}

// Append adds each value to its key's file. It changes all files or none, even if the
// process is killed.
//
// The error wraps [ErrUnknownOutcome] if a sync failed or the lock was lost during the append,
// [ErrNeedsReopen] if the store refuses writes, and [ErrTooLarge] if a limit is exceeded.
func (f *File) Append(ctx context.Context, entries ...Entry) error {
	total, err := checkEntries("append", entries)
	if err != nil {
		return err
	}
	if total == 0 {
		return f.fail("append", f.dir.Check())
	}
	return f.write(ctx, "append", func(tx filedir.Tx) error { return tx.Append(ctx, dirEntries(entries)) })
}

func dirEntries(entries []Entry) filedir.Entries {
	return filedir.Entries{Len: len(entries), At: func(i int) (string, []byte) {
		return entries[i].Key, entries[i].Value
	}}
}

// Get returns the values of keys.
func (f *File) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("get", keys); err != nil {
		return nil, err
	}
	values, err := f.dir.Get(ctx, keys)
	return values, f.fail("get", err)
}

// Set replaces the value of a key. Readers of the old value can finish reading it.
func (f *File) Set(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set", key, value, false)
}

// SetOnce sets a key unless it exists. (Python's iset checks only its own memory, so it can
// replace a value that another process has set.)
func (f *File) SetOnce(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set once", key, value, true)
}

func (f *File) set(ctx context.Context, op, key string, value []byte, once bool) error {
	if _, err := checkEntries(op, []Entry{{key, value}}); err != nil {
		return err
	}
	err := f.dir.Write(ctx, func(tx filedir.Tx) error { return tx.Set(ctx, key, value, once) })
	return f.fail(op, f.dir.KeyError(key, err))
}

// Delete removes either all keys or none, even if the process is killed. If removing a file
// fails midway, the error wraps [ErrUnknownOutcome], and the next operation removes the
// remaining files or fails.
func (f *File) Delete(ctx context.Context, keys ...string) error {
	if err := checkKeys("delete", keys); err != nil {
		return err
	}
	return f.write(ctx, "delete", func(tx filedir.Tx) error { return tx.Delete(ctx, keys) })
}

// Pop returns the values of keys and removes the keys, under one lock.
func (f *File) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("pop", keys); err != nil {
		return nil, err
	}
	var values [][]byte
	err := f.write(ctx, "pop", func(tx filedir.Tx) (err error) {
		values, err = tx.Pop(ctx, keys)
		return err
	})
	return values, err
}

// Drop removes every key: all files with names that the store writes, the files of Python's
// keys, and the directories of its tuples. Other files and ".lock" stay. Drop removes all keys
// or none, even if the process is killed. It holds the names of all keys in memory.
//
// If removing a file fails midway, the error wraps [ErrUnknownOutcome], and the next operation
// removes the remaining files or fails.
func (f *File) Drop(ctx context.Context) error {
	return f.write(ctx, "drop", func(tx filedir.Tx) error { return tx.Drop(ctx) })
}

// Sync waits until all changes that this File made before the call are durable, so that they
// survive a power loss. It does not cover other processes' writes.
func (f *File) Sync(ctx context.Context) error {
	return f.write(ctx, "sync", func(tx filedir.Tx) error { return tx.Sync(ctx) })
}

// Stat counts keys and bytes. Disk is the disk space of all files of the store, including
// files without values.
func (f *File) Stat(ctx context.Context) (Stats, error) {
	keys, bytes, disk, err := f.dir.Stat(ctx)
	if err != nil {
		return Stats{}, f.fail("stat", err)
	}
	return Stats{Keys: keys, Bytes: bytes, Disk: disk}, nil
}

// Keys yields the keys that exist when the iteration begins, in directory order. It skips keys that
// are deleted before it reaches them. It holds all names in memory, in a compact form.
func (f *File) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		err := f.dir.Keys(ctx, func(key string, size int64) bool { return yield(KeyInfo{key, size}, nil) })
		if err != nil {
			yield(KeyInfo{}, f.fail("keys", err))
		}
	}
}

// Scan yields the keys that exist when the iteration begins, in directory order. It skips keys that
// are deleted before it reaches them. Each value is as it was when Scan opened its file. Scan holds
// all names in memory, in a compact form, and a chunk of 256 KiB.
func (f *File) Scan(ctx context.Context) iter.Seq2[Chunk, error] { return f.scan(ctx, nil) }

// ScanPart is like Scan, but yields only the keys in one part and opens only their files. A
// key's part depends on its file name, so that every process divides the keys in the same way.
func (f *File) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := checkPart(part, parts); err != nil {
		return failed[Chunk](err)
	}
	return f.scan(ctx, func(name string) bool { return keyPart(name, parts) == part })
}

// scan yields the keys whose file names satisfy matches, or all keys if matches is nil.
func (f *File) scan(ctx context.Context, matches func(name string) bool) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		err := f.dir.Scan(ctx, matches, func(key string, offset int64, data []byte, last bool) bool {
			return yield(Chunk{key, offset, data, last}, nil)
		})
		if err != nil {
			yield(Chunk{}, f.fail("scan", err))
		}
	}
}

// ReaderMemory returns the memory that an open reader uses, and that a listing uses, in bytes. It
// assumes that the listing has as many keys as the last one.
func (f *File) ReaderMemory() (reader, listing int64) {
	if f.dir == nil {
		return 0, 0
	}
	return f.dir.ReaderMemory()
}

// Open returns a reader of the key's current value. The reader keeps one file open and still
// works after the key is deleted or the store is closed.
func (f *File) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := checkKeys("open", []string{key}); err != nil {
		return nil, err
	}
	if err := f.dir.Check(); err != nil {
		return nil, f.fail("open", err)
	}
	r, err := f.dir.Open(ctx, key, f.fail)
	if err != nil {
		return nil, f.fail("open", err)
	}
	return r, nil
}

// HasKey reports whether the key exists.
func (f *File) HasKey(ctx context.Context, key string) (bool, error) {
	if err := checkKeys("has", []string{key}); err != nil {
		return false, err
	}
	exists, err := f.dir.Has(ctx, key)
	return exists && err == nil, f.fail("has", err)
}

// NewSession issues a session, which all processes that have the directory open can use. The
// session survives kill -9. With Sync, it also survives a power loss; without Sync, it expires when
// the system restarts. The store keeps at most 8,192 sessions: to make space, NewSession forgets an
// unused session, or else the least recently used one. Drop keeps sessions. Python's drop ends all
// sessions, because it removes the directory.
func (f *File) NewSession(ctx context.Context) (uint64, error) {
	var session uint64
	err := f.write(ctx, "new session", func(tx filedir.Tx) (err error) {
		session, err = tx.NewSession()
		return err
	})
	return session, err
}

// EndSession forgets a session. Ending an unknown session is not an error.
func (f *File) EndSession(ctx context.Context, session uint64) error {
	return f.write(ctx, "end session", func(tx filedir.Tx) error { return tx.EndSession(session) })
}

// SessionToken returns a session's token, which is the same in every process that has
// the directory open.
func (f *File) SessionToken(ctx context.Context, session uint64) (SessionToken, error) {
	var token SessionToken
	err := f.write(ctx, "session token", func(tx filedir.Tx) error {
		secret, err := tx.SessionSecret(session)
		if err != nil {
			return err
		}
		token = SessionToken(sessiontab.NewToken(secret, session))
		return nil
	})
	return token, err
}

// CheckSession returns an error unless token is the session's token.
func (f *File) CheckSession(ctx context.Context, session uint64, token SessionToken) error {
	want, err := f.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// Apply atomically applies an operation and records its tag, even if the process is killed
// or, with FileOptions.Sync, if the power fails; see [Applier].
func (f *File) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := op.Check(tag); err != nil {
		return false, err
	}
	operation := sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
	err = f.write(ctx, "apply", func(tx filedir.Tx) error {
		applied, err = tx.Apply(tag.Session, operation, func() error { return f.change(ctx, tx, op) })
		return err
	})
	return applied, err
}

func (f *File) change(ctx context.Context, tx filedir.Tx, op Operation) error {
	switch op.Change {
	case ChangeAppend:
		return f.fail("append", tx.Append(ctx, dirEntries(op.Entries)))
	case ChangeSet, ChangeSetOnce:
		e := op.Entries[0]
		return f.fail("set", f.dir.KeyError(e.Key, tx.Set(ctx, e.Key, e.Value, op.Change == ChangeSetOnce)))
	case ChangeDelete:
		return f.fail("delete", tx.Delete(ctx, op.Keys))
	default:
		return f.fail("drop", tx.Drop(ctx))
	}
}
