package filedir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/vfs"
)

const (
	// writeSize is the maximum size, in bytes, of a write that combines small entries.
	writeSize = 256 << 10
	// Loops check whether their context has ended once every checkEvery files.
	checkEvery = 64
)

// Hooks change the store's behavior in tests.
type Hooks struct {
	KeepLock   time.Duration // replaces keepLock, unless 0; if negative, the lock is never kept
	Boot       uint64        // replaces the system's boot id, unless 0
	Sessions   int           // replaces the maximum number of sessions, unless 0
	MaxDirty   int           // replaces maxDirty, unless 0
	AfterWrite func()        // called after each write of data
}

// env holds what all parts of a Dir share. Only failure changes after Open; Dir.turn guards it.
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

var errNotRegular = errors.New("not a regular file, so the store cannot use it")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checkContext(ctx context.Context, i int) error {
	if i%checkEvery == 0 && ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	return nil
}

func isTooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func isReadOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// closeOnce closes a file and sets it to nil, unless it is already nil.
func closeOnce(file *vfs.File) error {
	f := *file
	if f == nil {
		return nil
	}
	*file = nil
	return f.Close()
}

// regularInfo returns the info of a newly opened file. If the file is not regular, for example a
// directory or a pipe, it closes the file and returns an error.
func regularInfo(file vfs.File) (vfs.Info, error) {
	info, err := file.Info()
	if err == nil && !info.Mode.IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return info, errors.Join(err, file.Close())
	}
	return info, nil
}

// readFull fills p with the file's bytes from offset off. It returns an error if the file is too
// short.
func readFull(file io.ReaderAt, p []byte, off int64) error {
	n, err := file.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func copyRange(dst vfs.File, offset int64, src vfs.File, from, to int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, offset), io.NewSectionReader(src, from, to-from))
	if err == nil && n < to-from {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func allZero(file vfs.File, from, to int64) (bool, error) {
	buf := make([]byte, min(to-from, writeSize))
	for ; from < to; from += int64(len(buf)) {
		buf = buf[:min(to-from, int64(len(buf)))]
		if err := readFull(file, buf, from); err != nil {
			return false, err
		}
		if bytes.Count(buf, []byte{0}) != len(buf) {
			return false, nil
		}
	}
	return true, nil
}

// bootID returns a number that stays the same until the machine restarts, or 0 if the system does not
// provide one. If the number is unchanged after an interrupted write, the power did not fail.
func bootID() uint64 {
	text := vfs.BootSession()
	if text == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(text))
	return binary.LittleEndian.Uint64(sum[:]) | 1
}
