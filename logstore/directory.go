package logstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// directory is where a store is, and what is known of writes to it.
type directory struct {
	fs       vfs.FS
	dir      string
	log      *slog.Logger
	readOnly bool
	noSync   bool // tests take that protection out

	lock    vfs.Lock              // of the directory; nil if there is none
	durable atomic.Bool           // see manifest.durable
	broken  atomic.Pointer[error] // why writes are refused until the store is opened again

	// syncs is held for each sync: see syncAlone. No lock is taken after it.
	syncs sync.Mutex
}

func (d *directory) path(name string) string { return filepath.Join(d.dir, name) }

// warn notes an error, if there is one, that costs nobody data. what says what
// could not be done, args are of slog.
func (d *directory) warn(err error, what string, args ...any) {
	if err != nil {
		d.log.Warn("logstore: "+what, append(args, "dir", d.dir, "err", err)...)
	}
}

// poison refuses all writes from now on, because of err, and returns err.
func (d *directory) poison(err error) error {
	if d.broken.CompareAndSwap(nil, &err) {
		d.log.Error("logstore: writes are refused until the store is opened again", "dir", d.dir, "err", err)
	}
	return err
}

// poisoned returns the error of a write after poison.
func (d *directory) poisoned() error {
	if p := d.broken.Load(); p != nil {
		return fmt.Errorf("%w (%w)", partd.ErrNeedsReopen, *p)
	}
	return nil
}

// syncFile makes a file's content survive a loss of power.
func (d *directory) syncFile(f vfs.File) error {
	if d.noSync {
		return nil
	}
	return f.Sync()
}

func (d *directory) syncDir() error {
	if d.noSync {
		return nil
	}
	return d.fs.SyncDir(d.dir)
}

// syncAlone runs syncs while nobody else does, and poisons the store if they
// fail. The system tells one caller only that something could not be written;
// whoever syncs next must not take for safe what is lost.
func (d *directory) syncAlone(syncs func() error) error {
	d.syncs.Lock()
	defer d.syncs.Unlock()
	if err := d.poisoned(); err != nil {
		return err
	}
	if err := syncs(); err != nil {
		return d.poison(err)
	}
	return nil
}

// syncParents makes the names of the store's directory, and of those above it,
// survive a loss of power. Those that may not be read were not made by us.
func (d *directory) syncParents() error {
	if d.noSync {
		return nil
	}
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

// What a change that failed, or that had nothing to do, has written is given
// back at once: it may be what fills the disk. Where that fails nothing is lost
// but room, so that an error is only noted.

// cutBack cuts off what is behind the end of a data file. Whoever calls it may
// write there.
func (d *directory) cutBack(f *dataFile) {
	if d.poisoned() != nil {
		return // a manifest of which nobody knows whether it is in place may refer to it
	}
	d.warn(f.f.Truncate(f.end), "what a failed change left in a file could not be cut off", "path", f.Path)
}

// punch gives back a part of a file that is followed by others, where the system
// can do that.
func (d *directory) punch(f vfs.File, off, n int64) {
	p, ok := f.(vfs.Puncher)
	if !ok || d.poisoned() != nil {
		return
	}
	d.warn(p.Punch(off, n), "what a failed change left in a file could not be given back", "path", f.Name())
}

func (d *directory) cutOff(f *dataFile, end int64) {
	l := d.fs.NewLock(f.Path)
	got, err := l.TryLock(true)
	if err == nil && !got {
		err = errStillRead
	}
	if got {
		err = errors.Join(f.f.Truncate(end), l.Unlock())
	}
	d.warn(err, "a file could not be shortened; the next opening will", "path", f.Path)
}

// readStart returns what a file holds, or the first bytes of it.
func (d *directory) readStart(path string, n int) ([]byte, error) {
	f, err := d.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, int64(n)))
	return b, errors.Join(err, f.Close())
}

// readAll returns what a file holds, which is no more than a limit.
func (d *directory) readAll(path string, limit int) ([]byte, error) {
	b, err := d.readStart(path, limit+1)
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s is larger than %d bytes, which it should not be", path, limit)
	}
	return b, err
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// errLockLost says that the lock file is not the one that was locked, so that
// another process may be writing.
var errLockLost = errors.New("the lock file was removed or replaced while this store was open")

// takeLock keeps other processes out. A reader shares the lock with readers.
func (d *directory) takeLock() error {
	if d.readOnly {
		// Who only reads leaves nothing in a directory that is no store.
		if _, err := d.fs.Info(d.path(manifestName)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no store here: %w", err)
		}
	}
	path := d.path(lockName)
	l := d.fs.NewLock(path)
	got, err := l.TryLock(!d.readOnly)
	if err != nil {
		if d.readOnly && (errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)) {
			return nil // where no lock file can be made, nobody writes
		}
		return err
	}
	if !got {
		return d.lockedError(path)
	}
	d.lock = l
	if err := d.checkLock(); err != nil {
		return errors.Join(err, l.Unlock())
	}
	if d.readOnly {
		return nil
	}
	if err := vfs.NoteHolder(d.fs, path); err != nil && !isNoSpace(err) { // the note is for messages only
		return errors.Join(err, l.Unlock())
	}
	return nil
}

// checkLock reports whether the file that is locked is still the one in the
// directory. Who deletes it lets another process lock a new one.
func (d *directory) checkLock() error {
	if d.lock == nil {
		return nil
	}
	named, err := vfs.IsNamed(d.fs, d.lock, d.path(lockName))
	if err == nil && !named {
		return errLockLost
	}
	return err
}

// unlock lets other processes in.
func (d *directory) unlock() error {
	if d.lock == nil {
		return nil
	}
	if !d.readOnly && d.checkLock() == nil {
		_ = vfs.ClearHolder(d.fs, d.path(lockName)) // a note that stays is not believed
	}
	return d.lock.Unlock()
}

// lockedError says who holds the lock, as far as that is known: the note names
// a writer, while readers leave none.
func (d *directory) lockedError(path string) error {
	if !d.readOnly {
		l := d.fs.NewLock(path)
		if shared, err := l.TryLock(false); err != nil {
			return err
		} else if shared {
			return errors.Join(fmt.Errorf("%w: the store is open for reading, here or elsewhere: close it there first", partd.ErrInUse), l.Unlock())
		}
	}
	return fmt.Errorf("the store is %w by %s: close it there, or share it through partd-server; if a server has it already, use the server's URL, such as tcp://127.0.0.1:7077", partd.ErrInUse, vfs.Holder(d.fs, path))
}
