package stage

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/tables"
)

// Options are the options of Open. The zero value, and nil, store results in the directory.
type Options struct {
	// Tables stores results in a bucket of a store of tables: tables as they are, other
	// results as tables of bytes. If several processes use the store at once, it needs
	// tables.Options.NoTail.
	Tables *tables.Store
	Bucket string // of Tables; nothing else should use it

	// Store stores results in a partd store that can set, list and delete keys. All keys
	// begin with "stage/". A result other than a table is limited to partd.MaxValueLen
	// bytes.
	Store partd.Partd

	// Parallel is the number of stages that run at once; 0 means one per processor.
	Parallel int
}

// Results holds what stages made. It is safe for concurrent use.
type Results struct {
	dir      string
	keep     keep
	local    partd.Partd // of the directory; nil: results are kept elsewhere
	hashes   *hashes
	parallel int
	now      func() time.Time
}

// The directories of Results. All begin with a key.
const (
	filesDir = "files" // the folders that stages made: KEY-TIME
	tmpDir   = "tmp"   // what is being made: KEY.RANDOM
	locksDir = "locks" // a file for each key that somebody has the lock of

	hashesLock = "hashes" // of who writes tmp/hashes.RANDOM
)

const keyLen = 64

var errBusy = errors.New("somebody else has the lock")

// Open opens a directory for results and creates it if it does not exist. If results are
// stored elsewhere, the directory holds unfinished results, locks, hashes of raw files, and
// the files that stages made.
func Open(dir string, o *Options) (*Results, error) {
	o = cmp.Or(o, new(Options))
	if o.Tables != nil && o.Store != nil {
		return nil, errors.New("results are kept in Tables or in Store: give one of them")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	r := &Results{dir: dir, parallel: o.Parallel, now: time.Now}
	for _, name := range []string{filesDir, tmpDir, locksDir} {
		if err := os.MkdirAll(r.path(name), 0o777); err != nil {
			return nil, err
		}
	}
	r.hashes = openHashes(r.path("hashes.json"))
	if r.parallel <= 0 {
		r.parallel = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.Tables != nil:
		r.keep = &tableKeep{o.Tables, o.Tables.Bucket(o.Bucket)}
	case o.Store != nil:
		r.keep = &storeKeep{o.Store}
	default:
		if r.local, err = partd.OpenFile(r.path("results"), nil); err != nil {
			return nil, err
		}
		r.keep = &storeKeep{r.local}
	}
	return r, nil
}

// Close closes the directory. It does not close the stores in Options.
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
	Key     string            `json:"key"`
	Stage   string            `json:"stage"`
	Made    time.Time         `json:"made"`
	Expires time.Time         `json:"expires,omitzero"` // zero: never
	Parts   map[string]string `json:"parts"`            // what the key is made of, mostly hashes
	Needs   []string          `json:"needs"`            // the keys of all ancestors
}

func (i *Info) expired(now time.Time) bool { return !i.Expires.IsZero() && !now.Before(i.Expires) }

// List returns all stored results, in no particular order.
func (r *Results) List(ctx context.Context) ([]*Info, error) { return r.keep.list(ctx) }

// keep is where results are kept, each as a table. Who puts or removes has the lock of
// the key.
type keep interface {
	// info returns nil where nothing is kept.
	info(ctx context.Context, key string) (*Info, error)
	// load returns an error that wraps fs.ErrNotExist where nothing is kept.
	load(ctx context.Context, key string) (arrow.Table, error)
	// put keeps a table, in place of what there is.
	put(ctx context.Context, i *Info, t arrow.Table) error
	list(ctx context.Context) ([]*Info, error)
	remove(ctx context.Context, key string) error
	// sweep removes what was put before a time and no result has.
	sweep(ctx context.Context, before time.Time) error
	// lock waits, and excludes those who do not share the directory.
	lock(ctx context.Context, key string) (unlock func() error, err error)
}

// lock takes the lock of a key, waits for it or returns nil, and removes what was left
// of those who had it before.
func (r *Results) lock(ctx context.Context, key string, wait bool) (unlock func() error, err error) {
	local, err := r.flock(ctx, key, true, wait)
	if local == nil || err != nil {
		return nil, err
	}
	if !wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Second, errBusy)
		defer cancel()
	}
	other, err := r.keep.lock(ctx, key)
	if errors.Is(context.Cause(ctx), errBusy) && other == nil {
		return nil, local()
	}
	if err != nil {
		return nil, errors.Join(err, local())
	}
	unlock = func() error { return errors.Join(other(), local()) }
	if err := r.sweep(key); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// flock takes the lock of a key among the processes that share the directory; the system
// frees it when one dies. It returns nil where others have it and wait is not set.
func (r *Results) flock(ctx context.Context, key string, exclusive, wait bool) (unlock func() error, err error) {
	path := r.path(locksDir, key)
	var l vfs.Lock
	if wait {
		l, err = vfs.WaitLock(ctx, vfs.OS{}, path, exclusive)
	} else {
		l, err = vfs.TryLock(vfs.OS{}, path, exclusive)
	}
	if l == nil || err != nil {
		return nil, err
	}
	if !exclusive { // others may share it
		return l.Unlock, nil
	}
	return func() error { return errors.Join(os.Remove(path), l.Unlock()) }, nil
}

// temp makes an empty directory for what is being made under a key.
func (r *Results) temp(key string) (string, error) { return os.MkdirTemp(r.path(tmpDir), key+".") }

// sweep removes what was being made under a key. The caller has its lock, so that it is
// nobody's.
func (r *Results) sweep(key string) error {
	left, err := fs.Glob(os.DirFS(r.path(tmpDir)), key+".*")
	for _, name := range left {
		err = errors.Join(err, os.RemoveAll(r.path(tmpDir, name)))
	}
	return err
}

// folder is where the files of a result are, each time it is made in another place.
func (r *Results) folder(i *Info) string {
	return r.path(filesDir, i.Key+"-"+strconv.FormatInt(i.Made.UnixNano(), 10))
}

// place puts files in the place where they are read, as one step.
func (r *Results) place(i *Info, made string) error {
	if err := syncTree(made); err != nil {
		return err
	}
	if err := os.Rename(made, r.folder(i)); err != nil {
		return err
	}
	return vfs.OS{}.SyncDir(r.path(filesDir))
}

// unpack puts files in their place from an archive. It changes nothing where they are
// there.
func (r *Results) unpack(i *Info, archive []byte) error {
	if _, err := os.Stat(r.folder(i)); err == nil {
		return nil
	}
	made, err := r.temp(i.Key)
	if err != nil {
		return err
	}
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err == nil {
		err = os.CopyFS(made, files)
	}
	if err != nil {
		return fmt.Errorf("unpack files: %w", err)
	}
	return r.place(i, made)
}

func pack(folder string) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	err := errors.Join(z.AddFS(os.DirFS(folder)), z.Close())
	return b.Bytes(), err
}

// syncTree makes files survive a loss of power.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, vfs.OS{}.SyncDir(path))
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a directory, and cannot be kept", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
