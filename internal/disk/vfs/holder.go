package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

// The holder of a long-lived lock writes a note to the lock file, for error messages. The first
// line is text for people. The second line distinguishes the process from a later one with the same
// PID. Holder trusts a note only while its process runs, because a killed process leaves its note.

var ownStart = sync.OnceValue(func() string { return processStart(os.Getpid()) })

// RecordHolder writes a note to a lock file which says that this process holds the lock.
func RecordHolder(fsys FS, name string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an-unknown-host"
	}
	return writeNote(fsys, name, fmt.Sprintf("process %d on %s (%s, since %s)\n%s\n",
		os.Getpid(), host, filepath.Base(os.Args[0]), time.Now().UTC().Format(time.RFC3339), ownStart()))
}

// ClearHolder removes the note from a lock file. Call it before releasing the lock.
func ClearHolder(fsys FS, name string) error { return writeNote(fsys, name, "") }

func writeNote(fsys FS, name, note string) error {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(note), 0)
	if err == nil {
		err = f.Truncate(int64(len(note)))
	}
	return errors.Join(err, f.Close())
}

// Holder describes the holder of a file's lock, for messages. If the process in the lock file's
// note runs on this machine, Holder returns the note's first line. Otherwise it returns "another
// process", followed by the note if the note may be from another machine.
func Holder(fsys FS, name string) string {
	const anotherProcess = "another process"
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return anotherProcess
	}
	b := make([]byte, 1<<10)
	n, _ := f.ReadAt(b, 0) // an error is expected, because a note is shorter than b
	_ = f.Close()          // the file was only read
	holder, rest, complete := strings.Cut(string(b[:n]), "\n")
	start, _, _ := strings.Cut(rest, "\n")
	var pid int
	var onHost string
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if _, err := fmt.Sscanf(holder, "process %d on %s", &pid, &onHost); err != nil || !complete || strings.ContainsFunc(holder, unprintable) {
		return anotherProcess
	}
	host, err := os.Hostname()
	switch {
	case start == "" || err != nil || onHost != host:
		return anotherProcess + " (the last holder recorded in " + name + " was " + holder + ")"
	case start != processStart(pid):
		return anotherProcess
	}
	return holder
}
