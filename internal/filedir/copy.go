package filedir

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// newTemp makes the temporary file. Only who has the lock does.
func (d *Dir) newTemp(perm fs.FileMode) (vfs.File, error) {
	if err := d.removeFile(names.Temp); err != nil {
		return nil, err
	}
	return d.openPerm(d.path(names.Temp), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// readFull reads bytes that must be there.
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

func copyRange(dst vfs.File, at int64, src vfs.File, from, to int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, at), io.NewSectionReader(src, from, to-from))
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
