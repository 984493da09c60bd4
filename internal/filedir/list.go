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

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// nameList holds many names in little memory.
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

// dirBunch is how many names are read from the directory at once, and how many
// files are looked at under one lock.
const dirBunch = 1024

// eachName calls visit with the name of each file in a directory and below, and what it is:
// "" is the store's, others end in a slash. A file that is not understood is an error where
// all must be, and left out otherwise.
func (d *Dir) eachName(below string, all bool, visit func(name string, kind names.Kind) error) (err error) {
	dir, err := retry(d, func() (vfs.Dir, error) { return d.fs.ReadDir(d.path(below)) })
	if below != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // Python's drop takes no lock
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		entries, err := dir.Next(dirBunch)
		for _, e := range entries {
			name, kind := below+e.Name(), names.Foreign
			if e.IsDir() {
				if err := d.eachName(name+"/", all, visit); err != nil {
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
			case all && kind != names.Own:
				return fmt.Errorf("%s is not a file that partd makes, in Go or Python, so what it holds is unknown: move it away", d.path(name))
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

// listFiles returns the names of the files that hold values, or of those that are
// wanted: see eachName.
func (d *Dir) listFiles(all bool, wanted func(name string) bool) (*nameList, error) {
	list := new(nameList)
	err := d.eachName("", all, func(name string, kind names.Kind) error {
		if (kind == names.Short || kind == names.Long) && (wanted == nil || wanted(name)) {
			list.add(name)
		}
		return nil
	})
	return list, err
}

// snapshot is listFiles with a lock of its own.
func (d *Dir) snapshot(ctx context.Context, wanted func(name string) bool) (*nameList, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	list, err := d.listFiles(true, wanted)
	if err == nil {
		memory := int64(cap(list.bytes) + 8*cap(list.ends))
		if wanted == nil || memory > d.listed.Load() {
			d.listed.Store(memory)
		}
	}
	return list, err
}

// ReaderMemory returns what an open reader takes, and a listing if there are as
// many keys as at the last one.
func (d *Dir) ReaderMemory() (reader, listing int64) {
	return 4 << 10, d.listed.Load() + 2*writeSize
}

func (d *Dir) keyOf(name string) (string, error) {
	if key, ok := d.scheme.TupleKey(name); ok && strings.Contains(name, "/") {
		flat := d.scheme.Name(key)
		if _, err := d.fs.Info(d.path(flat)); !errors.Is(err, fs.ErrNotExist) {
			return "", cmp.Or(err, d.twoFiles(flat, name))
		}
		return key, nil
	}
	key, kind := d.scheme.Parse(name)
	if kind == names.Short {
		return key, nil
	}
	keyName, _ := names.KeyFile(name)
	path := d.path(keyName)
	n, err := d.note(keyName)
	if err != nil {
		return "", err
	}
	if n.file == nil {
		return "", d.corrupt(path, -1, fmt.Errorf("%w: it holds the key whose value is in %s", fs.ErrNotExist, name))
	}
	if n.size > maxKeyLen {
		err = d.corrupt(path, maxKeyLen, fmt.Errorf("it holds %d bytes, but a key has at most %d", n.size, maxKeyLen))
		return "", errors.Join(err, n.close())
	}
	text, err := readNoted(n)
	if err := errors.Join(err, n.close()); err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != keyName[len(keyName)-2*len(sum):] {
		return "", d.corrupt(path, -1, errors.New("it does not hold the key that its name is the hash of"))
	}
	return string(text), nil
}

// maxKeyLen is partd.MaxKeyLen.
const maxKeyLen = 1<<16 - 1

type keySize struct {
	key  string
	size int64
}

// Keys visits the keys that the store has when it begins, until visit returns false.
func (d *Dir) Keys(ctx context.Context, visit func(key string, size int64) bool) error {
	list, err := d.snapshot(ctx, nil)
	if err != nil {
		return err
	}
	keys := make([]keySize, 0, min(dirBunch, list.len()))
	for at := 0; at < list.len(); {
		keys, at, err = d.keyBunch(ctx, list, at, keys[:0])
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

// keyBunch appends the keys of some files of a list, from one on, and returns the
// number of the next: of many, unless their keys are very long.
func (d *Dir) keyBunch(ctx context.Context, list *nameList, from int, keys []keySize) ([]keySize, int, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, from, err
	}
	defer d.end()
	const maxBytes = 1 << 20
	i, bytes := from, 0
	for ; i < list.len() && i < from+dirBunch && bytes < maxBytes; i++ {
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

// Stat counts keys, the bytes of their values, and those that all files of the
// store take on the disk.
func (d *Dir) Stat(ctx context.Context) (keys, bytes, disk int64, err error) {
	if err := d.begin(ctx, false); err != nil {
		return 0, 0, 0, err
	}
	defer d.end()
	i := 0
	err = d.eachName("", true, func(name string, kind names.Kind) error {
		i++
		if err := checkNow(ctx, i); err != nil {
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
