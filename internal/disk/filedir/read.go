package filedir

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// readBatch is the maximum number of files to open before releasing the lock.
const readBatch = 64

func (d *Dir) batchSize() int { return max(1, min(readBatch, d.cache.maxOpen)) }

// eachOpened calls open for up to n files with the lock held. Then it calls f for each opened file,
// without the lock. It returns the number of opened files, which is less than n if too many files
// are open.
func (d *Dir) eachOpened(ctx context.Context, n int,
	open func(i int) (openedFile, error), f func(i int, file *openedFile) error,
) (int, error) {
	files, err := d.openBatch(ctx, n, open)
	for i := range files {
		if err == nil {
			err = f(i, &files[i])
		}
		err = cmp.Or(err, files[i].close())
	}
	return len(files), err
}

// openBatch opens up to n files. The caller must close the files, even after an error.
func (d *Dir) openBatch(ctx context.Context, n int, open func(i int) (openedFile, error)) ([]openedFile, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	files := make([]openedFile, 0, n)
	for i := range n {
		file, err := open(i)
		if isTooManyOpen(err) && i > 0 {
			break // the caller will open the other files later
		}
		if err != nil {
			return files, err
		}
		files = append(files, file)
	}
	return files, nil
}

// Get returns the values of keys. It does not hold the lock while it reads files.
func (d *Dir) Get(ctx context.Context, keys []string) ([][]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for first := 0; first < len(keys); {
		batch := keys[first:min(first+d.batchSize(), len(keys))]
		open := func(i int) (openedFile, error) {
			file, err := d.tree.openKeyValue(batch[i])
			return file, d.KeyError(batch[i], err)
		}
		n, err := d.eachOpened(ctx, len(batch), open, func(i int, file *openedFile) (err error) {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			values[first+i], err = readOpened(*file)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				values[first+i], err = d.readAgain(ctx, batch[i])
			}
			return d.KeyError(batch[i], errors.Join(err, file.close()))
		})
		if err != nil {
			return nil, err
		}
		first += n
	}
	return values, nil
}

// readAgain reads a value again with the lock held, after a Python process overwrote it during the
// first read.
func (d *Dir) readAgain(ctx context.Context, key string) ([]byte, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	return d.tree.readValue(key)
}

// Open returns a reader of a key's current value. fail converts the reader's errors.
func (d *Dir) Open(ctx context.Context, key string, fail func(op string, err error) error) (*Reader, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, d.KeyError(key, err)
	}
	f, err := d.tree.openKeyValue(key)
	d.end()
	if err != nil {
		return nil, d.KeyError(key, err)
	}
	return &Reader{dir: d, fail: fail, key: key, openedFile: f}, nil
}

// Has reports whether a key exists.
func (d *Dir) Has(ctx context.Context, key string) (bool, error) {
	if err := d.begin(ctx, false); err != nil {
		return false, d.KeyError(key, err)
	}
	defer d.end()
	f, err := d.tree.openKeyValue(key)
	exists := f.file != nil
	return exists, d.KeyError(key, errors.Join(err, f.close()))
}

// Reader reads the value that a key had when the reader was opened.
type Reader struct {
	dir        *Dir
	fail       func(op string, err error) error
	key        string
	openedFile openedFile
	offset     int64
	closed     bool
}

func (r *Reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.fail("read", r.dir.KeyError(r.key, storeerror.ErrClosed))
	}
	remaining := r.openedFile.size - r.offset
	if remaining == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.openedFile.file.ReadAt(p[:min(remaining, int64(len(p)))], r.offset)
	r.offset += int64(n)
	if n > 0 {
		return n, nil // a persistent error will be returned by the next call
	}
	if errors.Is(err, io.EOF) {
		err = truncatedError(r.offset, r.openedFile.size)
	}
	return 0, r.fail("read", r.dir.KeyError(r.key, err))
}

// Rewind makes the reader start again at the beginning of the value.
func (r *Reader) Rewind() error {
	r.offset = 0
	return nil
}

// Close closes the file.
func (r *Reader) Close() error {
	r.closed = true
	return r.fail("close", r.dir.KeyError(r.key, r.openedFile.close()))
}
