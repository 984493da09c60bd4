package filedir

import (
	"context"
	"errors"
	"io/fs"

	"github.com/go-partd/partd/internal/disk/names"
)

func (d *Dir) listAll(ctx context.Context, matches func(name string) bool) (*nameList, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	list, err := d.tree.listFiles(true, matches)
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
		key, err := d.tree.keyOf(name)
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
	err = d.tree.eachName("", true, func(name string, kind names.Kind) error {
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
