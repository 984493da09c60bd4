package cliutil

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// ofTheDisk are reasons that have nothing to do with the key or the file at hand.
var ofTheDisk = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO}

// Message returns the text of an error for people: the program's name only
// once, each path once, and first the cause, where it is one of the whole disk.
func Message(err error) string {
	text := strings.TrimPrefix(err.Error(), "partd: ")
	text = strings.ReplaceAll(text, ": partd: ", ": ")
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		text = strings.Replace(text, p.Path+": "+p.Op+" "+p.Path+": ", p.Path+": ", 1)
	}
	for _, number := range ofTheDisk {
		if rest, ok := strings.CutSuffix(text, ": "+number.Error()); ok && errors.Is(err, number) {
			return number.Error() + ": " + rest
		}
	}
	return text
}
