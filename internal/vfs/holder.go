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

// Whoever holds a lock for long leaves a note in its file, of two lines: what people
// read, and what tells its process from a later one with the same number. The note is
// for messages only. It may outlive its process, and the next one has the lock a little
// before it has its own note there: so it is believed only if its process lives.

// NoteHolder notes in a locked file that this process has the lock.
func NoteHolder(fsys FS, name string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an-unknown-host"
	}
	return writeNote(fsys, name, fmt.Sprintf("process %d on %s (%s, since %s)\n%s\n",
		os.Getpid(), host, filepath.Base(os.Args[0]), time.Now().UTC().Format(time.RFC3339), processStart(os.Getpid())))
}

// ClearHolder removes the note before the lock is given back.
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

// Holder says who holds the lock of a file: the process, or "another process" where that is
// not certain. Of another machine's, nobody here knows whether the note is its.
func Holder(fsys FS, name string) string {
	const unknown = "another process"
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return unknown
	}
	b := make([]byte, 1<<10)
	n, _ := f.ReadAt(b, 0) // a note is shorter
	_ = f.Close()
	who, rest, whole := strings.Cut(string(b[:n]), "\n")
	start, _, _ := strings.Cut(rest, "\n")
	var pid int
	var on string
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if _, err := fmt.Sscanf(who, "process %d on %s", &pid, &on); err != nil || !whole || strings.ContainsFunc(who, unprintable) {
		return unknown
	}
	host, err := os.Hostname()
	switch {
	case start == "" || err != nil || on != host:
		return unknown + " (the last one that noted itself in " + name + " was " + who + ")"
	case start != processStart(pid):
		return unknown
	}
	return who
}
