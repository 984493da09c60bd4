package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// The holder of a long-lived lock writes a note to the lock file, for error messages. The first
// line is text for people. The second line distinguishes the process from a later one with the same
// PID. Holder trusts a note only while its process runs, because a killed process leaves its note.
//
// On a network file system, flock may exclude only processes of one machine, or of one mount. There, the
// holder also creates a claim, which is a file with its note next to the lock file. On all of these file
// systems, only one process can create a file of a given name.

const (
	claimSuffix    = ".holder"
	nextSuffix     = ".next" // suffix of a claim that is about to replace a stale one
	anotherProcess = "another process"
)

var ownStart = sync.OnceValue(func() string { return processStart(os.Getpid()) })

var servedURL atomic.Pointer[string]

// NoteURL adds the URL of this process's server to later notes. If url is "", they have no URL.
func NoteURL(url string) { servedURL.Store(&url) }

// HolderNote returns the note of this process.
func HolderNote() string {
	host, err := os.Hostname()
	if err != nil {
		host = "an-unknown-host"
	}
	program := filepath.Base(os.Args[0])
	if url := servedURL.Load(); url != nil && *url != "" {
		program += " at " + *url
	}
	return fmt.Sprintf("process %d on %s (%s, since %s)\n%s\n",
		os.Getpid(), host, program, time.Now().UTC().Format(time.RFC3339), ownStart())
}

// RecordHolder notes in a lock file that this process holds the lock. On a network file system, it also
// creates a claim file, and any error means that another process may hold the lock as well. The error
// wraps ErrInUse if that process has the claim file.
func RecordHolder(fsys FS, name string) error {
	network := NetworkOf(fsys, filepath.Dir(name)) != ""
	if network {
		if err := createClaim(fsys, name); err != nil {
			return err
		}
	}
	err := writeNote(fsys, name, 0, HolderNote())
	if network {
		return nil // the claim excludes other processes, and the note is only for messages
	}
	return err
}

// createClaim creates the claim of this process. It replaces the claim of a process that has ended.
func createClaim(fsys FS, name string) error {
	claim := name + claimSuffix
	err := writeNote(fsys, claim, os.O_CREATE|os.O_EXCL, HolderNote())
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := CheckHolder(fsys, name); err != nil {
		return err
	}
	// Only the process that has created the file of the next claim may replace a stale claim.
	next := claim + nextSuffix
	err = writeNote(fsys, next, os.O_CREATE|os.O_EXCL, HolderNote())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("it is %w by %s, which is replacing %s: try again, or remove %s if that process has ended", storeerror.ErrInUse, Holder(fsys, next), claim, next)
	}
	if err != nil {
		return err
	}
	// Check again, because another process may have replaced the claim since the first check. If the claim is
	// gone, another process can create a new one at any time, and a rename would replace it.
	_, err = ReadNote(fsys, claim)
	err = cmp.Or(err, CheckHolder(fsys, name))
	if err == nil {
		err = fsys.Rename(next, claim)
	}
	if err != nil {
		_ = fsys.Remove(next) // if this fails, the error of the next attempt names the file
	}
	return err
}

// ClearHolder removes the claim and the note in the lock file. Call it before releasing the lock.
func ClearHolder(fsys FS, name string) error {
	err := CheckHolder(fsys, name)
	if err == nil && NetworkOf(fsys, filepath.Dir(name)) != "" {
		err = fsys.Remove(name + claimSuffix)
	}
	return cmp.Or(err, writeNote(fsys, name, 0, ""))
}

// CheckHolder returns an error that wraps ErrInUse if the claim of a lock belongs to another process that may
// still be running. On a local file system, it does nothing, because flock excludes all processes there. A note
// with another host's name is from an earlier container. CheckHolder also ignores a claim on a read-only
// file system, such as a snapshot, because nobody could remove it there.
func CheckHolder(fsys FS, name string) error {
	network, claim := NetworkOf(fsys, filepath.Dir(name)), name+claimSuffix
	if network == "" {
		return nil
	}
	note, err := ReadNote(fsys, claim)
	isOwn := strings.HasPrefix(note, fmt.Sprintf("process %d on ", os.Getpid())) && strings.HasSuffix(note, "\n"+ownStart()+"\n")
	if holder, isHere, isRunning := ParseNote(note); err == nil && !isOwn && (isRunning || !isHere) && !isReadOnly(fsys, claim) {
		err = fmt.Errorf("it is %w by %s, and flock may not exclude all processes on %s: close it there, or remove %s if that process has ended",
			storeerror.ErrInUse, cmp.Or(holder, anotherProcess), network, claim)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isReadOnly reports whether the file system of a file is read-only.
func isReadOnly(fsys FS, name string) bool {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return errors.Is(err, syscall.EROFS)
}

func writeNote(fsys FS, name string, flag int, note string) error {
	f, err := fsys.OpenFile(name, os.O_RDWR|flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(note), 0)
	if err == nil {
		err = f.Truncate(int64(len(note)))
	}
	err = errors.Join(err, f.Close())
	if err != nil && flag&os.O_EXCL != 0 {
		_ = fsys.Remove(name) // a claim without a note would exclude everybody
	}
	return err
}

// ReadNote returns the content of a lock file, up to 1 KiB.
func ReadNote(fsys FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<10))
	return string(b), errors.Join(err, f.Close())
}

// ParseNote returns a note's first line, or "" if the note is incomplete. isHere reports whether its process
// was started on this machine since the last boot; the host name is not enough, because another machine can
// have the same name. If isHere is true, isRunning reports whether the process still runs.
func ParseNote(note string) (holder string, isHere, isRunning bool) {
	holder, rest, complete := strings.Cut(note, "\n")
	start, _, _ := strings.Cut(rest, "\n")
	var pid int
	var onHost string
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if _, err := fmt.Sscanf(holder, "process %d on %s", &pid, &onHost); err != nil || !complete || strings.ContainsFunc(holder, unprintable) {
		return "", false, false
	}
	host, err := os.Hostname()
	isHere = err == nil && onHost == host && start != "" && strings.HasSuffix(start, strings.TrimSpace(BootSession()))
	return holder, isHere, start == processStart(pid)
}

// Holder describes the holder of a file's lock, for messages. If the process in the lock file's
// note runs on this machine, Holder returns the note's first line. Otherwise it returns "another
// process", followed by the note if the note may be from another machine.
func Holder(fsys FS, name string) string {
	note, _ := ReadNote(fsys, name) // after an error, the holder is unknown
	holder, isHere, isRunning := ParseNote(note)
	switch {
	case holder == "" || isHere && !isRunning:
		return anotherProcess
	case !isHere:
		return anotherProcess + " (the last holder recorded in " + name + " was " + holder + ")"
	}
	return holder
}
