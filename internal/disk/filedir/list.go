package filedir

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
)

func (d *Dir) listAll(ctx context.Context, matches func(name string) bool) (*nameList, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	list, err := d.tree.listFiles(true, matches)
	if err != nil {
		return list, err
	}
	memory := int64(cap(list.bytes) + 8*cap(list.ends))
	if matches == nil || memory > d.listMemory.Load() {
		d.listMemory.Store(memory)
	}
	return list, nil
}

// ReaderMemory estimates the memory that an open reader and another listing of all keys use, in
// bytes.
func (d *Dir) ReaderMemory() (reader, listing int64) {
	return 4 << 10, d.listMemory.Load() + 2*writeSize
}

type keySize struct {
	key  string
	size int64
}

// Keys calls yield for each key that exists when Keys begins, until yield returns false.
func (d *Dir) Keys(ctx context.Context, yield func(key string, size int64) bool) error {
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
			if !yield(k.key, k.size) {
				return nil
			}
		}
	}
	return nil
}

// keyBatch appends the keys of list's files to keys, starting with the file at index first. It
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

// scanBatch is the maximum number of files that a Scan opens at once. It is small, because the
// files stay open while the caller processes the values, and hundreds of scans may run.
const scanBatch = 8

var errStopped = errors.New("the caller stopped the scan")

// Visit receives a chunk of a value and reports whether to continue. data is valid only during the
// call.
type Visit func(key string, offset int64, data []byte, last bool) bool

// Scan visits the values of the keys that exist when Scan begins. If matches is not nil, it skips the
// keys whose file names do not match.
func (d *Dir) Scan(ctx context.Context, matches func(name string) bool, visit Visit) error {
	list, err := d.listAll(ctx, matches)
	if err != nil {
		return err
	}
	buf := make([]byte, writeSize)
	for first, batchSize := 0, min(scanBatch, d.batchSize()); first < list.len(); {
		n, err := d.scanFiles(ctx, list, first, min(first+batchSize, list.len()), buf, visit)
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		first += n
	}
	return nil
}

// scanFiles visits the values of list's files with indexes in [from, to). It returns the number of
// visited files, which is less than to-from if too many files are open.
func (d *Dir) scanFiles(ctx context.Context, list *nameList, from, to int, buf []byte, visit Visit) (int, error) {
	keys := make([]string, to-from)
	open := func(i int) (openedFile, error) {
		name := list.name(from + i)
		f, err := d.tree.openValue(name)
		if err == nil && f.file != nil {
			keys[i], err = d.tree.keyOf(name)
			if err != nil {
				err = errors.Join(err, f.close())
			}
		}
		return f, err
	}
	return d.eachOpened(ctx, to-from, open, func(i int, file *openedFile) error {
		if file.file == nil {
			return nil
		}
		return d.scanFile(ctx, keys[i], file, buf, visit)
	})
}

func (d *Dir) scanFile(ctx context.Context, key string, f *openedFile, buf []byte, visit Visit) error {
	for offset, last := int64(0), false; !last; {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		p := buf[:min(int64(len(buf)), f.size-offset)]
		err := readFull(f.file, p, offset)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			if offset > 0 {
				return d.KeyError(key, truncatedError(offset, f.size))
			}
			// A Python process overwrote the value. No chunk of it was visited yet, so read it again.
			p, err = d.readAgain(ctx, key)
			if err == nil {
				f.size = int64(len(p))
			}
		}
		if err != nil {
			return err
		}
		last = offset+int64(len(p)) == f.size
		if !visit(key, offset, p, last) {
			return errStopped
		}
		offset += int64(len(p))
	}
	return nil
}
