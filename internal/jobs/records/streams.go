package records

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Stdin is the file name that stands for standard input.
const Stdin = "-"

// CheckStreams returns an error if two of the names stand for one pipe, socket or terminal, because its data can be read
// only once. stdin is the standard input.
func CheckStreams(stdin *os.File, names ...string) error {
	null, _ := os.Stat(os.DevNull)
	seen := map[string]fs.FileInfo{}
	for _, name := range names {
		stat := func() (fs.FileInfo, error) { return os.Stat(name) }
		if name == Stdin {
			stat = stdin.Stat
		}
		info, err := stat()
		isStream := err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeCharDevice) != 0 && !os.SameFile(info, null)
		if !isStream && name != Stdin { // not a stream; if Stat failed, opening the file reports the error
			continue
		}
		for other, otherInfo := range seen {
			if name == Stdin && other == Stdin {
				return errors.New("standard input (-) is given twice")
			}
			if isStream && os.SameFile(info, otherInfo) {
				return fmt.Errorf("%s and %s are the same pipe, socket or terminal: name it once", other, name)
			}
		}
		seen[name] = info
	}
	return nil
}
