package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// directory is a store's directory, with its lock and the state of its syncs.
type directory struct {
	health
	fs      vfs.FS
	lock    vfs.Lock    // lock on the directory; nil for a reader that cannot create the lock file
	durable atomic.Bool // Sync was called at least once; see manifest.durable

	// syncMu is held during each sync: see syncExclusive. It is the last in the lock order.
	syncMu sync.Mutex
	syncs  sync.Map // a set of *time.Time, the start times of the running syncs: see timed
}

// storeLocks holds the locks that several parts of a store share. Lock order: lifeMu, firstSync,
// mu, blobs.mu, catalog.mu, directory.syncMu.
type storeLocks struct {
	lifeMu    sync.RWMutex // every change holds it shared; Drop and Close hold it exclusively
	firstSync sync.Mutex   // held during the first Sync
	mu        sync.Mutex   // appends take effect in the order in which they acquire mu
}

func (d *directory) path(name string) string { return filepath.Join(d.dir, name) }

func (d *directory) makeDir() error {
	if err := vfs.RefuseLink(d.fs, d.dir); err != nil {
		return err
	}
	info, err := d.fs.Info(d.dir)
	switch {
	case err == nil && !info.Mode.IsDir():
		return errors.New("it is not a directory")
	case errors.Is(err, os.ErrNotExist) && !d.readOnly:
		return d.fs.MkdirAll(d.dir, 0o777)
	}
	return err
}

// free returns the free space of the directory's disk in bytes, if it is known.
func (d *directory) free() (int64, error) {
	if r, ok := d.fs.(vfs.SpaceReporter); ok {
		return r.Free(d.dir)
	}
	return math.MaxInt64, nil
}

func (d *directory) syncDir() error { return d.fs.SyncDir(d.dir) }

// syncExclusive calls sync while no other sync runs. If sync fails, the store refuses all further
// writes: the operating system reports a lost write only once, so a later sync would succeed
// although data is lost.
func (d *directory) syncExclusive(sync func() error) error {
	d.syncMu.Lock()
	defer d.syncMu.Unlock()
	if err := d.checkPoisoned(); err != nil {
		return err
	}
	if err := d.timed(sync); err != nil {
		return d.poison(err)
	}
	return nil
}

// timed calls sync and lets longestSync see how long it has been running.
func (d *directory) timed(sync func() error) error {
	start := time.Now()
	d.syncs.Store(&start, nil)
	defer d.syncs.Delete(&start)
	return sync()
}

// longestSync returns how long the longest of the running syncs has taken so far, excluding waits for locks.
func (d *directory) longestSync() (longest time.Duration) {
	d.syncs.Range(func(start, _ any) bool {
		longest = max(longest, time.Since(*start.(*time.Time)))
		return true
	})
	return longest
}

// syncParents makes the name of the store's directory survive a power loss. It stops at the first
// ancestor without read permission: this process cannot have created such a directory.
func (d *directory) syncParents() error {
	for dir := filepath.Clean(d.dir); ; {
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		if err := d.fs.SyncDir(parent); err != nil {
			if errors.Is(err, os.ErrPermission) {
				return nil
			}
			return err
		}
		dir = parent
	}
}

// truncateTail removes the data after f.end, left by an operation that failed or changed nothing.
// If the disk is full, other operations need that space. truncateTail only logs errors. The caller
// must be the only writer.
func (d *directory) truncateTail(f *dataFile) {
	if d.checkPoisoned() != nil {
		return // a manifest that refers to the data may be in place
	}
	d.warn(f.f.Truncate(f.end), "a file could not be truncated after a failed change", "path", f.Path)
}

// punch frees the blocks of n bytes of a file at offset off, if the system supports it. It only
// logs errors.
func (d *directory) punch(f vfs.File, off, n int64) {
	p, ok := f.(vfs.Puncher)
	if !ok || d.checkPoisoned() != nil {
		return
	}
	d.warn(p.Punch(off, n), "space in a file could not be freed after a failed change", "path", f.Name())
}

// tryTruncate truncates a file to end, unless a reader in any process still uses it.
func (d *directory) tryTruncate(f *dataFile, end int64) {
	l := d.fs.NewLock(f.Path)
	locked, err := l.TryLock(true)
	if err == nil && !locked {
		err = errStillRead
	}
	if locked {
		err = errors.Join(f.f.Truncate(end), l.Unlock())
	}
	d.warn(err, `a file could not be truncated; the next Open will retry`, "path", f.Path)
}

// readStart returns the first n bytes of a file, or the whole file if it is shorter.
func (d *directory) readStart(path string, n int) ([]byte, error) {
	f, err := d.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, int64(n)))
	return b, errors.Join(err, f.Close())
}

// readAll returns a file's content, which must not exceed limit bytes.
func (d *directory) readAll(path string, limit int) ([]byte, error) {
	b, err := d.readStart(path, limit+1)
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s is larger than the maximum of %d bytes", path, limit)
	}
	return b, err
}

// errLockLost means that the lock file is gone, and another process may hold a new one.
var errLockLost = errors.New("the lock file was removed or replaced while this store was open")

// takeLock locks the directory: exclusively for writing, or shared for reading.
func (d *directory) takeLock() error {
	if d.readOnly {
		// A reader must not create a lock file in a directory without a store.
		if _, err := d.fs.Info(d.path(manifestName)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no store here: %w", err)
		}
	}
	path := d.path(lockName)
	l := d.fs.NewLock(path)
	locked, err := l.TryLock(!d.readOnly)
	if err != nil {
		if d.readOnly && (errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)) {
			// Without permission to open or create the lock file, assume that no process can
			// write to the directory, and read without a lock.
			return nil
		}
		return err
	}
	if !locked {
		return d.lockedError(path)
	}
	d.lock = l
	if err := d.checkLock(); err != nil {
		return errors.Join(err, l.Unlock())
	}
	if d.readOnly {
		return nil
	}
	// A store on a full disk must open, so that it can be dropped. On local disks, only error messages use the holder's name.
	if err := vfs.RecordHolder(d.fs, path); err != nil && (!isNoSpace(err) || vfs.NetworkOf(d.fs, d.dir) != "") {
		return errors.Join(err, l.Unlock())
	}
	return nil
}

// checkLock returns an error if another process may hold the lock as well.
func (d *directory) checkLock() error {
	if d.lock == nil {
		return nil
	}
	named, err := vfs.IsNamed(d.fs, d.lock, d.path(lockName))
	if err == nil && !named {
		return errLockLost
	}
	return cmp.Or(err, vfs.CheckHolder(d.fs, d.path(lockName)))
}

func (d *directory) unlock() error {
	if d.lock == nil {
		return nil
	}
	if !d.readOnly && d.checkLock() == nil {
		_ = vfs.ClearHolder(d.fs, d.path(lockName)) // if it fails, the lock file keeps a stale name, which is harmless
	}
	return d.lock.Unlock()
}

// lockedError returns the error for a store that is in use. If a writer has the lock, the error
// names the writer, which the lock file records.
func (d *directory) lockedError(path string) error {
	if !d.readOnly {
		l := d.fs.NewLock(path)
		if shared, err := l.TryLock(false); err != nil {
			return err
		} else if shared {
			return errors.Join(fmt.Errorf("%w: the store is open for reading, in this or another process: close it there first", partd.ErrInUse), l.Unlock())
		}
	}
	return fmt.Errorf("the store is %w by %s: close it there, or share it through partd-server; if a server already has it open, use the server's URL, such as tcp://127.0.0.1:7077", partd.ErrInUse, vfs.Holder(d.fs, path))
}

// errStillRead means that a file cannot be truncated, because a reader of a closed store still
// uses it, in this or another process. Such a reader holds a shared lock on each file.
var errStillRead = errors.New("it is still being read")

// syncData syncs the data files with unsynced writes. Call it only within syncExclusive: it marks
// a file as clean before the file's sync ends, so a concurrent call would not wait for that sync.
func (d *directory) syncData(files *fileSet) error {
	for _, f := range files.files() {
		if !f.dirty.Swap(false) {
			continue
		}
		if err := f.f.Sync(); err != nil {
			return err
		}
	}
	return nil
}
