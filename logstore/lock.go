package logstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// errLockLost says that the lock file is not the one that was locked, so that
// another process may be writing.
var errLockLost = errors.New("the lock file was removed or replaced while this store was open")

// takeLock keeps other processes out. A reader shares the lock with readers.
func (s *Store) takeLock() error {
	if s.opts.ReadOnly {
		// Who only reads leaves nothing in a directory that is no store.
		if _, err := s.fs.Info(filepath.Join(s.dir, manifestName)); errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is no store here: %w", err)
		}
	}
	path := filepath.Join(s.dir, lockName)
	l := s.fs.NewLock(path)
	got, err := l.TryLock(!s.opts.ReadOnly)
	if err != nil {
		if s.opts.ReadOnly && (errors.Is(err, os.ErrPermission) || isReadOnlyFS(err)) {
			return nil // where no lock file can be made, nobody writes
		}
		return err
	}
	if !got {
		return s.lockedError(path)
	}
	s.lock = l
	if err := s.checkLock(); err != nil {
		return errors.Join(err, l.Unlock())
	}
	if s.opts.ReadOnly {
		return nil
	}
	if err := s.writeLockHolder(path); err != nil && !isNoSpace(err) { // the note is for messages only
		return errors.Join(err, l.Unlock())
	}
	return nil
}

// checkLock tells whether the file that is locked is still the one in the
// directory. Who deletes it lets another process lock a new one.
func (s *Store) checkLock() error {
	if s.lock == nil {
		return nil
	}
	held, err := s.lock.Info()
	if err != nil {
		return err
	}
	there, err := s.fs.Info(filepath.Join(s.dir, lockName))
	if errors.Is(err, os.ErrNotExist) || err == nil && !there.SameFile(held) {
		return errLockLost
	}
	return err
}

// writeLockHolder leaves a note of who holds the lock.
func (s *Store) writeLockHolder(path string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	f, err := s.fs.OpenFile(path, os.O_RDWR, 0)
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
func (s *Store) lockedError(path string) error {
	if !s.opts.ReadOnly {
		l := s.fs.NewLock(path)
		if shared, err := l.TryLock(false); err != nil {
			return err
		} else if shared {
			return errors.Join(errors.New("the store is open for reading, here or elsewhere: close it there first"), l.Unlock())
		}
	}
	return fmt.Errorf("the store is in use by %s: close it there, or share it through partd-server; where that has it already, use the server's URL, as tcp://127.0.0.1:7077", s.lockHolder(path))
}

func (s *Store) lockHolder(path string) string {
	const unknown = "another process"
	f, err := s.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return unknown
	}
	b := make([]byte, 200)
	n, _ := f.ReadAt(b, 0) // a note that is missing is no error
	_ = f.Close()
	note, _, ok := strings.Cut(string(b[:n]), "\n")
	if !ok || !strings.HasPrefix(note, "process ") {
		return unknown
	}
	return note
}
