package filedir

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Hooks change the store's behavior in tests.
type Hooks struct {
	KeepLock   time.Duration // replaces keepLock, unless 0; if negative, the lock is never kept
	Boot       uint64        // replaces the system's boot id, unless 0
	Sessions   int           // replaces the maximum number of sessions, unless 0
	MaxDirty   int           // replaces maxDirty, unless 0
	AfterWrite func()        // called after each write of data
}

// env is what all parts of a Dir share. Only failure changes after Open; Dir.turn guards it.
type env struct {
	Hooks Hooks

	dir     string
	fs      vfs.FS
	sync    bool
	log     *slog.Logger
	corrupt func(path string, offset int64, err error) error
	boot    uint64
	failure error // the reason why writes are refused, or nil: see ErrNeedsReopen
}

func (e *env) path(name string) string { return e.dir + string(filepath.Separator) + name }

// isDir reports whether path is a directory. It returns false for a link to a directory.
func (e *env) isDir(path string) bool {
	if l, ok := e.fs.(vfs.LinkChecker); ok {
		if link, err := l.IsLink(path); err != nil || link {
			return false
		}
	}
	info, err := e.fs.Info(path)
	return err == nil && info.Mode.IsDir()
}

// refuseWrites returns err. If err is not nil, all later writes fail.
func (e *env) refuseWrites(err error) error {
	if err != nil && e.failure == nil {
		e.failure = err
		e.log.Error("partd: writes are refused until the store is opened again", "dir", e.dir, "err", err)
	}
	return err
}

// warn logs an error that does not affect the current operation.
func (e *env) warn(message string, err error) {
	if err != nil {
		e.log.Warn("partd: "+message, "dir", e.dir, "err", err)
	}
}

func unknownOutcome(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storeerror.ErrUnknownOutcome, err)
}
