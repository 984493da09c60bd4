package logstore

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

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
		if d.readOnly && (errors.Is(err, os.ErrPermission) || isReadOnlyFS(err)) {
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
	if err := d.writeLockHolder(path); err != nil && !isNoSpace(err) { // the note is for messages only
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
	held, err := d.lock.Info()
	if err != nil {
		return err
	}
	there, err := d.fs.Info(d.path(lockName))
	if errors.Is(err, os.ErrNotExist) || err == nil && !there.SameFile(held) {
		return errLockLost
	}
	return err
}

// writeLockHolder leaves a note of who holds the lock.
func (d *directory) writeLockHolder(path string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	f, err := d.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("process %d on %s\n", os.Getpid(), host)
	_, err = f.WriteAt([]byte(note), 0)
	if err == nil {
		err = f.Truncate(int64(len(note)))
	}
	return errors.Join(err, f.Close())
}

// lockedError says who holds the lock, as far as that is known: the note names
// a writer, while readers leave none.
func (d *directory) lockedError(path string) error {
	if !d.readOnly {
		l := d.fs.NewLock(path)
		if shared, err := l.TryLock(false); err != nil {
			return err
		} else if shared {
			return errors.Join(errors.New("the store is open for reading, here or elsewhere: close it there first"), l.Unlock())
		}
	}
	return fmt.Errorf("the store is in use by %s: close it there, or share it through partd-server; where that has it already, use the server's URL, as tcp://127.0.0.1:7077", d.lockHolder(path))
}

func (d *directory) lockHolder(path string) string {
	const unknown = "another process"
	b, err := d.readStart(path, 200)
	if err != nil { // a note that is missing is no error
		return unknown
	}
	note, _, ok := strings.Cut(string(b), "\n")
	if !ok || !strings.HasPrefix(note, "process ") {
		return unknown
	}
	return note
}
