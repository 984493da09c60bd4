package filedir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// nameList stores many names in little memory.
type nameList struct {
	bytes []byte
	ends  []int
}

func (l *nameList) len() int { return len(l.ends) }

func (l *nameList) add(name string) {
	l.bytes = append(l.bytes, name...)
	l.ends = append(l.ends, len(l.bytes))
}

func (l *nameList) name(i int) string {
	start := 0
	if i > 0 {
		start = l.ends[i-1]
	}
	return string(l.bytes[start:l.ends[i]])
}

// listBatch is the number of directory entries to read in one call. Keys also releases the lock
// after examining this number of files.
const listBatch = 1024

// eachName calls visit for each file in a directory and its subdirectories. below is the
// directory's path from the store's directory: "", or a path that ends in a slash. A file that is
// not part of a store causes an error if strict is true; otherwise it is skipped.
func (d *Dir) eachName(below string, strict bool, visit func(name string, kind names.Kind) error) (err error) {
	dir, err := retry(d, func() (vfs.Dir, error) { return d.fs.ReadDir(d.path(below)) })
	if below != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // the subdirectory is gone: Python's partd can drop a store without taking the lock
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		entries, err := dir.Next(listBatch)
		for _, e := range entries {
			name, kind := below+e.Name(), names.Foreign
			if e.IsDir() {
				if err := d.eachName(name+"/", strict, visit); err != nil {
					return err
				}
				continue
			}
			if _, ok := d.scheme.TupleKey(name); ok && below != "" {
				kind = names.Short
			} else if below == "" {
				_, kind = d.scheme.Parse(name)
			}
			switch {
			case kind != names.Foreign && e.Type().IsRegular():
				if err := visit(name, kind); err != nil {
					return err
				}
			case strict && kind != names.Own:
				return fmt.Errorf("%s was not written by partd, in Go or Python, and may contain a key: move it out of the directory", d.path(name))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// listFiles returns the names of the files with values. If matches is not nil, it returns only the
// names that matches accepts. For strict, see eachName.
func (d *Dir) listFiles(strict bool, matches func(name string) bool) (*nameList, error) {
	list := new(nameList)
	err := d.eachName("", strict, func(name string, kind names.Kind) error {
		if (kind == names.Short || kind == names.Long) && (matches == nil || matches(name)) {
			list.add(name)
		}
		return nil
	})
	return list, err
}

func (d *Dir) listAll(ctx context.Context, matches func(name string) bool) (*nameList, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	list, err := d.listFiles(true, matches)
	if err == nil {
		memory := int64(cap(list.bytes) + 8*cap(list.ends))
		if matches == nil || memory > d.listMemory.Load() {
			d.listMemory.Store(memory)
		}
	}
	return list, err
}

// ReaderMemory estimates, in bytes, the memory of an open reader and of another listing of all
// keys.
func (d *Dir) ReaderMemory() (reader, listing int64) {
	return 4 << 10, d.listMemory.Load() + 2*writeSize
}

func (d *Dir) keyOf(name string) (string, error) {
	if key, ok := d.scheme.TupleKey(name); ok && strings.Contains(name, "/") {
		flat := d.scheme.Name(key)
		if _, err := d.fs.Info(d.path(flat)); !errors.Is(err, fs.ErrNotExist) {
			return "", cmp.Or(err, d.twoFilesError(flat, name))
		}
		return key, nil
	}
	key, kind := d.scheme.Parse(name)
	if kind == names.Short {
		return key, nil
	}
	keyName, _ := names.KeyFile(name)
	path := d.path(keyName)
	n, err := d.openValue(keyName)
	if err != nil {
		return "", err
	}
	if n.file == nil {
		return "", d.corrupt(path, -1, fmt.Errorf("%w: it should contain the key of the value in %s", fs.ErrNotExist, name))
	}
	if n.size > maxKeyLen {
		err = d.corrupt(path, maxKeyLen, fmt.Errorf("it has %d bytes, but the maximum length of a key is %d", n.size, maxKeyLen))
		return "", errors.Join(err, n.close())
	}
	text, err := readOpened(n)
	if err := errors.Join(err, n.close()); err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != keyName[len(keyName)-2*len(sum):] {
		return "", d.corrupt(path, -1, errors.New("its name is not the hash of its content, which should be a key"))
	}
	return string(text), nil
}

// maxKeyLen equals partd.MaxKeyLen.
const maxKeyLen = 1<<16 - 1

type keySize struct {
	key  string
	size int64
}

// Keys visits the keys that exist when Keys begins, until visit returns false.
func (d *Dir) Keys(ctx context.Context, visit func(key string, size int64) bool) error {
	list, err := d.listAll(ctx, nil)
	if err != nil {
		return err
	}
	keys := make([]keySize, 0, min(listBatch, list.len()))
	for i := 0; i < list.len(); {
		keys, i, err = d.keyBatch(ctx, list, i, keys[:0])
		if err != nil {
			return err
		}
		for _, k := range keys {
			if !visit(k.key, k.size) {
				return nil
			}
		}
	}
	return nil
}

// keyBatch appends to keys the keys of list's files, starting with the file at index first. It
// returns the index of the first file that it has not examined.
func (d *Dir) keyBatch(ctx context.Context, list *nameList, first int, keys []keySize) ([]keySize, int, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, first, err
	}
	defer d.end()
	const maxBytes = 1 << 20
	i, bytes := first, 0
	for ; i < list.len() && i < first+listBatch && bytes < maxBytes; i++ {
		name := list.name(i)
		info, err := d.fs.Info(d.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, i, err
		}
		key, err := d.keyOf(name)
		if err != nil {
			return nil, i, err
		}
		bytes += len(key)
		keys = append(keys, keySize{key, info.Size})
	}
	return keys, i, nil
}

// Stat counts keys, the bytes of their values, and the disk space of all the store's files.
func (d *Dir) Stat(ctx context.Context) (keys, bytes, disk int64, err error) {
	if err := d.begin(ctx, false); err != nil {
		return 0, 0, 0, err
	}
	defer d.end()
	i := 0
	err = d.eachName("", true, func(name string, kind names.Kind) error {
		i++
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		info, err := d.fs.Info(d.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		disk += info.Disk
		if kind != names.Own {
			keys++
			bytes += info.Size
		}
		return nil
	})
	return keys, bytes, disk, err
}
