package stage

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
)

// Options configures Open. With the zero value or nil, results are stored in Open's directory.
type Options struct {
	// Tables is a store of tables that holds the results: tables unchanged, and other results as tables of bytes. If
	// several processes use the store at the same time, it needs tables.Options.NoTail.
	Tables *tables.Store
	Bucket string // bucket of Tables for results; it must contain nothing else

	// Parallel is the number of stages that can run at the same time; 0 means one per processor.
	Parallel int

	Logger *slog.Logger // receives a warning for each damaged result, which is computed again; nil means slog.Default()
}

// Results stores the results of stages. It is safe for concurrent use.
type Results struct {
	dir      string
	backend  backend
	local    partd.Partd // the partd store in dir; nil if Options.Tables holds the results
	hashes   *hashes
	parallel int
	now      func() time.Time
	log      *slog.Logger
}

// Subdirectories of dir. Their files have names that begin with a key, except hashesLock and tmp/hashes.RANDOM.
const (
	filesDir = "files" // folders that stages returned: KEY-TIME
	tmpDir   = "tmp"   // unfinished results: KEY.RANDOM
	locksDir = "locks" // one file for each lock: KEY, KEY-TIME or hashesLock

	hashesLock = "hashes" // lock for replacing the cache of file hashes
)

const keyLen = 64 // characters; a key is a SHA-256 in hexadecimal

var errLockHeld = errors.New("another process holds the lock")

// Open opens a directory for results and creates it if necessary. Even with Options.Tables, the directory contains
// unfinished results, locks, hashes of raw files, and Folders.
func Open(dir string, o *Options) (*Results, error) {
	o = cmp.Or(o, new(Options))
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Results{dir: dir, parallel: o.Parallel, now: time.Now, log: cmp.Or(o.Logger, slog.Default())}
	for _, name := range []string{filesDir, tmpDir, locksDir} {
		if err := os.MkdirAll(r.path(name), 0o777); err != nil {
			return nil, err
		}
	}
	r.hashes = openHashes(r.path("hashes.json"))
	if r.parallel <= 0 {
		r.parallel = runtime.GOMAXPROCS(0)
	}
	if o.Tables != nil {
		r.backend = &tableBackend{o.Tables, o.Tables.Bucket(o.Bucket)}
		return r, nil
	}
	r.local, err = partd.OpenFile(r.path("results"), nil)
	if err != nil {
		return nil, err
	}
	r.backend = &dirBackend{r.local, r}
	return r, nil
}

// Close closes the directory. It does not close Options.Tables.
func (r *Results) Close() error {
	if r == nil || r.local == nil {
		return nil
	}
	return partd.Close(context.Background(), r.local)
}

func (r *Results) path(names ...string) string {
	return filepath.Join(append([]string{r.dir}, names...)...)
}

// Info describes a stored result.
type Info struct {
	Key       string            `json:"key"`
	Stage     string            `json:"stage"`
	Created   time.Time         `json:"made"`
	Expires   time.Time         `json:"expires,omitzero"` // zero means never
	Parts     map[string]string `json:"parts"`            // each input of the key, with its value or, in most cases, a hash of the value
	Ancestors []string          `json:"needs"`            // keys of all ancestors
	Content   string            `json:"hash,omitempty"`   // hash of the result, for the keys of later stages
}

func (i *Info) expired(now time.Time) bool { return !i.Expires.IsZero() && !now.Before(i.Expires) }

// List returns all stored results, in no particular order.
func (r *Results) List(ctx context.Context) ([]*Info, error) { return r.backend.list(ctx) }

// backend stores each result as a table. The key's lock must be held for put and remove.
type backend interface {
	// info returns nil if no result is stored.
	info(ctx context.Context, key string) (*Info, error)
	// load returns an error that wraps fs.ErrNotExist if no result is stored.
	load(ctx context.Context, key string) (arrow.Table, error)
	// put stores a table and replaces an existing one.
	put(ctx context.Context, info *Info, t arrow.Table) error
	list(ctx context.Context) ([]*Info, error)
	remove(ctx context.Context, key string) error
	// sweep removes data to which no info refers.
	sweep(ctx context.Context) error
	// lock waits for the lock of a key, which also excludes processes with another directory.
	lock(ctx context.Context, key string) (unlock func() error, err error)
}

// lock acquires the lock of a key and removes unfinished results of earlier holders. If wait is false and the lock is
// held, unlock is nil.
func (r *Results) lock(ctx context.Context, key string, wait bool) (unlock func() error, err error) {
	unlockDir, err := r.flock(ctx, key, lockMode{exclusive: true, wait: wait})
	if unlockDir == nil || err != nil {
		return nil, err
	}
	if !wait { // a backend cannot try a lock, so limit the time
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Second, errLockHeld)
		defer cancel()
	}
	unlockBackend, err := r.backend.lock(ctx, key)
	if errors.Is(context.Cause(ctx), errLockHeld) && unlockBackend == nil {
		return nil, unlockDir()
	}
	if err != nil {
		return nil, errors.Join(err, unlockDir())
	}
	unlock = func() error { return errors.Join(unlockBackend(), unlockDir()) }
	if err := r.sweep(key); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

type lockMode struct{ exclusive, wait bool }

// flock acquires a lock that excludes other users of this directory. It is released when the process ends. If mode.wait
// is false and the lock is held, unlock is nil.
func (r *Results) flock(ctx context.Context, key string, mode lockMode) (unlock func() error, err error) {
	path := r.path(locksDir, key)
	var l vfs.Lock
	if mode.wait {
		l, err = vfs.WaitLock(ctx, vfs.OS{}, path, mode.exclusive)
	} else {
		l, err = vfs.TryLock(vfs.OS{}, path, mode.exclusive)
	}
	if l == nil || err != nil {
		return nil, err
	}
	if !mode.exclusive { // keep the lock file, because other readers may hold the lock
		return l.Unlock, nil
	}
	return func() error { return errors.Join(os.Remove(path), l.Unlock()) }, nil
}

func (r *Results) makeTemp(key string) (string, error) { return os.MkdirTemp(r.path(tmpDir), key+".") }

// sweep removes the unfinished results of a key. The key's lock must be held.
func (r *Results) sweep(key string) error {
	names, err := fs.Glob(os.DirFS(r.path(tmpDir)), key+".*")
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(r.path(tmpDir, name)))
	}
	return err
}

// folder returns the path of a result's files. Each computation of a key has its own folder.
func (r *Results) folder(info *Info) string {
	return r.path(filesDir, info.Key+"-"+strconv.FormatInt(info.Created.UnixNano(), 10))
}

func (r *Results) moveToFolder(info *Info, dir string) error {
	if err := syncTree(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, r.folder(info)); err != nil {
		return err
	}
	return vfs.OS{}.SyncDir(r.path(filesDir))
}

// unpack extracts an archive into the folder of a result, unless the folder exists.
func (r *Results) unpack(info *Info, archive []byte) error {
	if _, err := os.Stat(r.folder(info)); err == nil {
		return nil
	}
	dir, err := r.makeTemp(info.Key)
	if err != nil {
		return err
	}
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err == nil {
		err = os.CopyFS(dir, files)
	}
	if err != nil {
		return fmt.Errorf("unpacking the result's files: %w", err)
	}
	return r.moveToFolder(info, dir)
}

func pack(folder string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := errors.Join(z.AddFS(os.DirFS(folder)), z.Close())
	return b.Bytes(), err
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, vfs.OS{}.SyncDir(path))
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s cannot be stored, because it is neither a regular file nor a directory", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
