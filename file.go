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
	// Sync makes each operation survive a loss of power before it is
	// acknowledged. Without it, what was acknowledged survives the death of the
	// process, kill -9 included.
	Sync bool
	// MaxOpenFiles is the number of key files kept open between operations. 0
	// takes a quarter of the process's limit of open files, 8,192 at most.
	MaxOpenFiles int
	// Logger is told of what was repaired. Nil: nobody is.
	Logger *slog.Logger
}

// File is a store in a directory, one file per key, which several processes
// share, Python's partd among them.
//
// A key of letters, digits and "-_.() " has the file name that Python gives it;
// other keys have names with a percent sign in them, which Python never writes.
// A Python key that holds another character loses it in Python's file name.
// A Python tuple, or a string with slashes, becomes a path: File has it as the key that
// Python's server makes of a tuple, "a-|-1" of ('a', 1), and writes such keys as Python does,
// unless a file is in the way: then it is in a file with a percent sign, beside the others.
// While there are tuples that begin with "a", Python has no key "a", nor has File. A directory
// that they left empty is removed where a key needs its name.
//
// Symbolic links, and names that neither would give, are left alone. They are an error, with
// the name, of whatever goes through all keys: they may hold what is being looked for.
//
// Processes exclude each other with flock on ".lock", which does not work on
// every network file system: keep the directory on a local disk. The lock is
// kept for up to 20 milliseconds after a write, so that a stream of small appends
// takes it once for many.
//
// An append first notes in the file "%undo" what it is about to add to which
// files. Whoever takes the lock after a process died half-way cuts that out
// again, and keeps what a Python process appended meanwhile. (One thing it
// can't tell apart: bytes that Python appended in that time, to a file that the
// dead process had not reached yet, if they are the very bytes that it was
// about to add.) Where the bytes found are neither, the operation fails with a
// [*CorruptError], and nothing is changed.
//
// Readers lock only while they note how long the values are. A value that
// Python replaces (iset) while it is read may be seen in part.
type File struct {
	dir  *filedir.Dir
	temp io.Closer // removes the directory of a temporary store, nil if it is none
}

// OpenFile opens the store in a directory, and makes the directory where it is
// missing. It finishes or undoes what a process left half-done. It refuses a
// directory that is not empty and has no ".lock": that is no store, and Drop
// would remove what is in it. Several processes, and one several times, may have
// a directory open. One that may only be read, or is on a read-only file system,
// can be, unless something is to be finished or undone. A nil opts is the zero
// value.
func OpenFile(dir string, opts *FileOptions) (*File, error) {
	return openFile(vfs.OS{}, dir, opts, filedir.Hooks{})
}

// OpenTemp opens a store in a new directory of its own below dir, "" meaning
// [os.TempDir], for what is not needed once this process ends. Close removes the
// directory. One whose process died is removed by whoever makes the next
// temporary store, sort or group in the same place.
func OpenTemp(dir string) (*File, error) {
	path, temp, err := tempdir.Own(dir)
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
	switch e := err.(type) { // not wrapped: what is around it would be lost
	case nil:
		return nil
	case *Error:
		return e
	case *filedir.KeyError:
		return &Error{Op: op, Key: e.Key, HasKey: true, Path: e.Path, Err: e.Err}
	}
	return &Error{Op: op, Path: f.dir.Path(), Err: err}
}

// write does what changes the store.
func (f *File) write(ctx context.Context, op string, do func(filedir.Tx) error) error {
	return f.fail(op, f.dir.Write(ctx, do))
}

// Close lets go of the directory and of every open file. Every later operation
// fails with an error that wraps [ErrClosed]; readers that Open returned go on.
func (f *File) Close() error {
	err := f.dir.Close()
	if f.temp != nil {
		err = errors.Join(err, f.temp.Close())
	}
	return f.fail("close", err)
}

// Append adds the values to the files of their keys. It is all or nothing, in
// every file, also when the process is killed.
//
// The error wraps [ErrUnknownOutcome] if a sync failed or if the lock was lost
// meanwhile, [ErrNeedsReopen] if writes are refused, [ErrTooLarge] for what is
// over a limit.
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

// dirEntries copies nothing.
func dirEntries(entries []Entry) filedir.Entries {
	return filedir.Entries{Len: len(entries), At: func(i int) (string, []byte) {
		return entries[i].Key, entries[i].Value
	}}
}

// Get returns the values of keys. The lock is shared while files are opened, 64
// at a time, and let go of while they are read.
func (f *File) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := CheckKeys("get", keys); err != nil {
		return nil, err
	}
	values, err := f.dir.Get(ctx, keys)
	return values, f.fail("get", err)
}

// Set replaces a key's file by a new one: who reads the old value goes on
// reading it.
func (f *File) Set(ctx context.Context, key string, value []byte) error {
	return f.set(ctx, "set", key, value, false)
}

// SetOnce sets a key that has no file. (Python's iset replaces the value if
// another process set it: its check is its own memory.)
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

// Delete removes the files of keys, all or none, also when the process is
// killed. Its error wraps [ErrUnknownOutcome] where some were removed and the
// next operation will remove the others, or fail.
func (f *File) Delete(ctx context.Context, keys ...string) error {
	if err := CheckKeys("delete", keys); err != nil {
		return err
	}
	return f.write(ctx, "delete", func(tx filedir.Tx) error { return tx.Delete(ctx, keys) })
}

// Pop is Get and Delete under one lock.
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

// Drop removes every key: every file that the store itself can have written,
// and those of Python with names that it would give, too, and the directories of its
// tuples. Other files and ".lock" stay. It is all or nothing, also when the process
// is killed, and holds the names of all keys in memory meanwhile.
//
// Its error wraps [ErrUnknownOutcome] where some were removed and the next
// operation will remove the others, or fail.
func (f *File) Drop(ctx context.Context) error {
	return f.write(ctx, "drop", func(tx filedir.Tx) error { return tx.Drop(ctx) })
}

// Sync returns once all that was acknowledged to this store before the call
// survives a loss of power. What other processes wrote is theirs to sync.
func (f *File) Sync(ctx context.Context) error {
	return f.write(ctx, "sync", func(tx filedir.Tx) error { return tx.Sync(ctx) })
}

// Stat counts keys and bytes. Disk is what all files of the store take on the
// disk, those that hold no values included.
func (f *File) Stat(ctx context.Context) (Stats, error) {
	keys, bytes, disk, err := f.dir.Stat(ctx)
	if err != nil {
		return Stats{}, f.fail("stat", err)
	}
	return Stats{Keys: keys, Bytes: bytes, Disk: disk}, nil
}

// Keys yields the keys that the store has when the iteration begins, in the
// order of the directory, with the sizes that they have when 1,024 of them are
// looked at under the lock (fewer where keys are very long); a key that is gone
// by then is left out. It holds the names in memory, packed.
func (f *File) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return func(yield func(KeyInfo, error) bool) {
		err := f.dir.Keys(ctx, func(key string, size int64) bool { return yield(KeyInfo{key, size}, nil) })
		if err != nil {
			yield(KeyInfo{}, f.fail("keys", err))
		}
	}
}

// Scan yields the keys that the store has when the iteration begins, in the
// order of the directory, each with the value that it has when its file is
// opened, 8 at a time under the lock; a key that is gone by then is left out.
// It holds the names in memory, packed, and a chunk of 256 KiB.
func (f *File) Scan(ctx context.Context) iter.Seq2[Chunk, error] { return f.scan(ctx, nil) }

// ScanPart yields what Scan yields of the keys of a part, and opens their files
// alone. The name of a key's file tells its part, so that every process that has
// the directory open divides the keys in the same way.
func (f *File) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := CheckPart(part, parts); err != nil {
		return failedScan(err)
	}
	return f.scan(ctx, func(name string) bool { return keyPart(name, parts) == part })
}

// scan yields the keys of the files that are wanted, nil for all.
func (f *File) scan(ctx context.Context, wanted func(name string) bool) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		err := f.dir.Scan(ctx, wanted, func(key string, offset int64, data []byte, last bool) bool {
			return yield(Chunk{key, offset, data, last}, nil)
		})
		if err != nil {
			yield(Chunk{}, f.fail("scan", err))
		}
	}
}

// ReaderMemory returns what an open reader takes, and a listing if there are as
// many keys as at the last one.
func (f *File) ReaderMemory() (reader, listing int64) {
	if f.dir == nil {
		return 0, 0
	}
	return f.dir.ReaderMemory()
}

// Open returns a reader of the value that the key has now. It keeps one file
// open, and goes on after the key was deleted or the store closed.
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

// NewSession issues a session, of which every process that has the directory
// open knows. It survives kill -9, and with Sync a loss of power; without Sync
// it is over when the system is started anew. Of more than 8,192 one is
// forgotten: that was not used, or longest ago. Drop keeps sessions; Python's
// drop, which removes the whole directory, ends them.
func (f *File) NewSession(ctx context.Context) (uint64, error) {
	var session uint64
	err := f.write(ctx, "new session", func(tx filedir.Tx) (err error) {
		session, err = tx.NewSession()
		return err
	})
	return session, err
}

// EndSession forgets a session; one that is not known is no error.
func (f *File) EndSession(ctx context.Context, session uint64) error {
	return f.write(ctx, "end session", func(tx filedir.Tx) error { return tx.EndSession(session) })
}

// SessionToken returns the token of a session, for every process that has the
// directory open.
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

// CheckSession returns an error unless a token is that of the session.
func (f *File) CheckSession(ctx context.Context, session uint64, token SessionToken) error {
	want, err := f.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// Apply applies an operation together with its tag, as one step, also when the
// process is killed, or with Sync when the power fails. Its errors are those of
// the operation.
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
