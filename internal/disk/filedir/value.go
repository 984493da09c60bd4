package filedir

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// openedFile is an open value file, with the size that it had when it was opened.
type openedFile struct {
	file vfs.File // nil if the key does not exist
	size int64
}

func (n *openedFile) close() error { return closeOnce(&n.file) }

func readOpened(n openedFile) ([]byte, error) {
	if n.file == nil || n.size == 0 {
		return nil, nil
	}
	value := make([]byte, n.size)
	return value, readFull(n.file, value, 0)
}

func truncatedError(offset, size int64) error {
	return fmt.Errorf("%w: another process truncated the file to %d bytes or less during the read, from %d: read the key again",
		io.ErrUnexpectedEOF, offset, size)
}

// maxKeyLen equals partd.MaxKeyLen.
const maxKeyLen = 1<<16 - 1

// openValue opens a value file. The lock must be held.
func (t *tree) openValue(name string) (openedFile, error) {
	file, err := t.cache.open(t.path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return openedFile{}, nil
	}
	if err != nil {
		return openedFile{}, err
	}
	info, err := regularInfo(file)
	if errors.Is(err, errNotRegular) && t.isEmptyTupleDir(name) {
		return openedFile{}, nil
	}
	if err != nil {
		return openedFile{}, err
	}
	return openedFile{file, info.Size}, nil
}

func (t *tree) openKeyValue(key string) (openedFile, error) {
	name, err := t.nameOf(key)
	if err != nil {
		return openedFile{}, err
	}
	return t.openValue(name)
}

func (t *tree) readValue(key string) ([]byte, error) {
	n, err := t.openKeyValue(key)
	if err != nil {
		return nil, err
	}
	value, err := readOpened(n)
	return value, errors.Join(err, n.close())
}

func (t *tree) keyOf(name string) (string, error) {
	if key, ok := t.scheme.TupleKey(name); ok && strings.Contains(name, "/") {
		flat := t.scheme.Name(key)
		if _, err := t.fs.Info(t.path(flat)); !errors.Is(err, fs.ErrNotExist) {
			return "", cmp.Or(err, t.twoFilesError(flat, name))
		}
		return key, nil
	}
	key, kind := t.scheme.Parse(name)
	if kind == names.Short {
		return key, nil
	}
	keyName, _ := names.KeyFile(name)
	path := t.path(keyName)
	n, err := t.openValue(keyName)
	if err != nil {
		return "", err
	}
	if n.file == nil {
		return "", t.corrupt(path, -1, fmt.Errorf("%w: it should contain the key of the value in %s", fs.ErrNotExist, name))
	}
	if n.size > maxKeyLen {
		err = t.corrupt(path, maxKeyLen, fmt.Errorf("it has %d bytes, but the maximum length of a key is %d", n.size, maxKeyLen))
		return "", errors.Join(err, n.close())
	}
	text, err := readOpened(n)
	if err := errors.Join(err, n.close()); err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != keyName[len(keyName)-2*len(sum):] {
		return "", t.corrupt(path, -1, errors.New("its name is not the hash of its content, which should be a key"))
	}
	return string(text), nil
}
