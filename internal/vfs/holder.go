package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// The holder of a long-lived lock leaves a note in the lock's file, of two lines: a text for
// people, and data that distinguishes its process from a later one with the same PID. The note is
// only for messages. It may outlive its process, and a new holder has the lock shortly before it
// writes its own note, so a note is trusted only while its process lives.

// RecordHolder writes a note to a locked file that this process holds the lock.
func RecordHolder(fsys FS, name string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an-unknown-host"
	}
	return writeNote(fsys, name, fmt.Sprintf("process %d on %s (%s, since %s)\n%s\n",
		os.Getpid(), host, filepath.Base(os.Args[0]), time.Now().UTC().Format(time.RFC3339), processStart(os.Getpid())))
}

// ClearHolder removes the note. Call it before releasing the lock.
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

// Holder describes the holder of a file's lock for messages. It returns "another process" if the
// holder is unknown, with the note if that may come from another machine.
func Holder(fsys FS, name string) string {
	const anotherProcess = "another process"
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return anotherProcess
	}
	b := make([]byte, 1<<10)
	n, _ := f.ReadAt(b, 0) // a note is shorter
	_ = f.Close()
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
