package partd

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

	"github.com/go-partd/partd/internal/filedir"
	"github.com/go-partd/partd/internal/sessiontab"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// FileOptions are the options of [OpenFile]. The zero value is useful.
type FileOptions struct {
	// Sync makes each operation survive a loss of power before it is acknowledged.
	// Without it, acknowledged data survives only the death of the process, even by
	// kill -9.
	Sync bool
	// MaxOpenFiles is the number of key files kept open between operations. The
	// default, 0, is a quarter of the process's limit on open files, at most 8,192.
	MaxOpenFiles int
	// Logger receives repairs; nil means no logging.
	Logger *slog.Logger
}

// File is a store in a directory with one file per key. Several processes can share the
// directory, including Python's partd.
//
// The file name of a key of letters, digits and "-_.() " is Python's. Other keys have
// names with a percent sign, which Python never writes. If a Python key has other
// characters, Python leaves them out of the file name.
//
// A Python key that is a tuple or a string with slashes becomes a path. Its key in File is
// that of Python's server: "a-|-1" for ('a', 1). File writes such keys to the same path,
// or, if a file is in the way, to a file with a percent sign in its name. While tuples
// begin with "a", neither Python nor File has a key "a"; an empty directory is removed
// when a key needs its name.
//
// Symbolic links and foreign files are never changed. Operations on all keys fail with
// an error that names such a file, because it may hold a key's value.
//
// Processes lock ".lock" with flock, which does not work on every network file system:
// keep the directory on a local disk. A process keeps the lock for up to 20 milliseconds
// after a write, so that a stream of small appends takes it once for many.
//
// Before an append changes files, it writes an undo record to the file "%undo". If the
// process dies, the next process that takes the lock removes the incomplete append, and
// keeps the bytes that a Python process has appended since. If the record and the files
// do not match, the operation fails with a [*CorruptError] and changes nothing. (One case
// cannot be detected: Python appended exactly the bytes of the dead process's append to a
// file that the append had not reached.)
//
// Readers hold the lock only while they look up the lengths of values. A reader may see
// part of a value that Python replaces (iset) at the same time.
type File struct {
	dir  *filedir.Dir
	temp io.Closer // removes the directory of a temporary store; otherwise nil
}

// OpenFile opens the store in a directory, and creates the directory if it is missing.
// OpenFile finishes or undoes what a dead process left incomplete. It rejects a directory
// that is not empty and has no ".lock": that is no store, and Drop would remove its files.
// A directory may be open several times, in several processes. A read-only directory can
// be opened unless there is something to finish or undo. A nil opts means defaults.
func OpenFile(dir string, opts *FileOptions) (*File, error) {
	return openFile(vfs.OS{}, dir, opts, filedir.Hooks{})
}

// OpenTemp opens a temporary store in a new directory below dir, or below [os.TempDir] if
// dir is empty. Close removes the directory. If the process dies first, the next temporary
// store, sort or group below the same dir removes it.
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

// fail returns the error of an operation; nil stays nil.
func (f *File) fail(op string, err error) error {
	switch e := err.(type) { // no errors.As: that would drop the wrapping error's text
	case nil:
		return nil
	case *Error:
		return e
	case *filedir.KeyError:
		return &Error{Op: op, Key: e.Key, HasKey: true, Path: e.Path, Err: e.Err}
	}
	return &Error{Op: op, Path: f.dir.Path(), Err: err}
}

// write runs an operation that changes the store.
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

// Append adds the values to the files of their keys. It is all or nothing across all
// files, even if the process is killed.
//
// The error wraps [ErrUnknownOutcome] if a sync failed or the lock was lost during the
// append, [ErrNeedsReopen] if the store refuses writes, and [ErrTooLarge] if a limit is
// exceeded.
func (f *File) Append(ctx context.Context, entries ...Entry) error {
	total, err := CheckEntries("append", entries)
	if err != nil {
		return err
	}
	if total == 0 {
		return f.fail("append", f.dir.Check())
	}
	return f.write(ctx, "append", func(tx filedir.Tx) error { return tx.Append(ctx, dirEntries(entries)) })
}

// dirEntries adapts entries without copying them.
func dirEntries(entries []Entry) filedir.Entries {
	return filedir.Entries{Len: len(entries), At: func(i int) (string, []byte) {
		return entries[i].Key, entries[i].Value
	}}
}

// Get returns the values of keys. It holds the shared lock while it opens files, 64 at a
// time, but not while it reads them.
func (f *File) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := CheckKeys("get", keys); err != nil {
		return nil, err
	}
	values, err := f.dir.Get(ctx, keys)
	return values, f.fail("get", err)
}

// Set replaces a key's file by a new one. Readers of the old value can finish reading it.
func (f *File) Set(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set", key, value, false)
}

// SetOnce sets a key that has no file. (Python's iset checks only its own memory, so it may
// replace a value that another process set.)
func (f *File) SetOnce(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set once", key, value, true)
}

func (f *File) set(ctx context.Context, op, key string, value []byte, once bool) error {
	if _, err := CheckEntries(op, []Entry{{key, value}}); err != nil {
		return err
	}
	err := f.dir.Write(ctx, func(tx filedir.Tx) error { return tx.Set(ctx, key, value, once) })
	return f.fail(op, f.dir.KeyError(key, err))
}

// Delete removes the files of all keys, or of no key, even if the process is killed. If it
// fails midway, its error wraps [ErrUnknownOutcome], and the next operation removes the
// remaining files or fails.
func (f *File) Delete(ctx context.Context, keys ...string) error {
	if err := CheckKeys("delete", keys); err != nil {
		return err
	}
	return f.write(ctx, "delete", func(tx filedir.Tx) error { return tx.Delete(ctx, keys) })
}

// Pop gets and deletes keys under one lock.
func (f *File) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	var values [][]byte
	err := f.write(ctx, "pop", func(tx filedir.Tx) (err error) {
		values, err = tx.Pop(ctx, keys)
		return err
	})
	return values, err
}

// Drop removes every key: every file that the store can have written, the files of Python's
// keys, and the directories of its tuples. Other files and ".lock" stay. Drop is all or
// nothing, even if the process is killed. It holds the names of all keys in memory.
//
// If it fails midway, its error wraps [ErrUnknownOutcome], and the next operation removes
// the remaining files or fails.
func (f *File) Drop(ctx context.Context) error {
	return f.write(ctx, "drop", func(tx filedir.Tx) error { return tx.Drop(ctx) })
}

// Sync returns once everything that this store acknowledged before the call would survive
// a loss of power. It does not cover other processes' writes.
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

// Keys yields the keys that exist when the iteration begins, in directory order. It looks
// up the sizes of 1,024 keys at a time under the lock (fewer if keys are very long), and
// skips keys deleted by then. It holds all names in memory, packed.
func (f *File) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		err := f.dir.Keys(ctx, func(key string, size int64) bool { return yield(KeyInfo{key, size}, nil) })
		if err != nil {
			yield(KeyInfo{}, f.fail("keys", err))
		}
	}
}

// Scan yields the keys that exist when the iteration begins, in directory order. A value is
// that of the time when its file is opened, 8 at a time under the lock; keys deleted by
// then are skipped. Scan holds all names in memory, packed, and a chunk of 256 KiB.
func (f *File) Scan(ctx context.Context) iter.Seq2[Chunk, error] { return f.scan(ctx, nil) }

// ScanPart yields what Scan yields for the keys of one part, and opens only their files.
// The part depends on the file's name, so that every process divides the keys in the same
// way.
func (f *File) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := CheckPart(part, parts); err != nil {
		return failedScan(err)
	}
	return f.scan(ctx, func(name string) bool { return keyPart(name, parts) == part })
}

// scan yields the keys whose file names wanted accepts; nil means all.
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

// ReaderMemory returns the memory that an open reader needs, and the memory of a listing
// with as many keys as the last one.
func (f *File) ReaderMemory() (reader, listing int64) {
	if f.dir == nil {
		return 0, 0
	}
	return f.dir.ReaderMemory()
}

// Open returns a reader of the key's current value. It keeps one file open, and still works
// after the key was deleted or the store closed.
func (f *File) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKeys("open", []string{key}); err != nil {
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
	if err := CheckKeys("has", []string{key}); err != nil {
		return false, err
	}
	exists, err := f.dir.Has(ctx, key)
	return exists && err == nil, f.fail("has", err)
}

// NewSession issues a session, which is shared by all processes that have the directory
// open. It survives kill -9. With Sync it also survives a loss of power; without Sync it
// expires when the system restarts. At most 8,192 sessions are kept: NewSession forgets an
// unused one first, then the least recently used. Drop keeps sessions; Python's drop ends
// them, because it removes the directory.
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

// SessionToken returns the token of a session, which is the same in every process that has
// the directory open.
func (f *File) SessionToken(ctx context.Context, session uint64) (SessionToken, error) {
	var token SessionToken
	err := f.write(ctx, "session token", func(tx filedir.Tx) error {
		secret, err := tx.SessionSecret(session)
		if err == nil {
			token = NewSessionToken(secret, session)
		}
		return err
	})
	return token, err
}

// CheckSession returns an error if the token is not the session's.
func (f *File) CheckSession(ctx context.Context, session uint64, token SessionToken) error {
	want, err := f.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// Apply applies an operation and records its tag in one step, even if the process is
// killed, or with Sync if the power fails. It returns the operation's errors.
func (f *File) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := CheckOperation(tag, op); err != nil {
		return false, err
	}
	next := sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
	err = f.write(ctx, "apply", func(tx filedir.Tx) error {
		applied, err = tx.Apply(tag.Session, next, func() error { return f.change(ctx, tx, op) })
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
