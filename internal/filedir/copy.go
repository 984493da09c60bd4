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

// eachChunk calls visit with the bytes of a file from one offset to another.
func eachChunk(file io.ReaderAt, from, to int64, visit func(p []byte, off int64) error) error {
	buf := make([]byte, min(to-from, writeSize))
	for from < to {
		p := buf[:min(to-from, int64(len(buf)))]
		if err := readFull(file, p, from); err != nil {
			return err
		}
		if err := visit(p, from); err != nil {
			return err
		}
		from += int64(len(p))
	}
	return nil
}

func copyRange(dst vfs.File, at int64, src vfs.File, from, to int64) error {
	return eachChunk(src, from, to, func(p []byte, off int64) error {
		_, err := dst.WriteAt(p, at+off-from)
		return err
	})
}

var errNotZero = errors.New("not zero")

func allZero(file vfs.File, from, to int64) (bool, error) {
	err := eachChunk(file, from, to, func(p []byte, _ int64) error {
		if bytes.Count(p, []byte{0}) != len(p) {
			return errNotZero
		}
		return nil
	})
	if errors.Is(err, errNotZero) {
		return false, nil
	}
	return err == nil, err
}
