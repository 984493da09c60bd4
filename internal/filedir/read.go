package filedir

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/vfs"
)

// readBunch is how many files are opened under one lock.
const readBunch = 64

// noted is a file as it was when the lock was held.
type noted struct {
	file vfs.File // nil: the key does not exist
	size int64
}

func (n *noted) close() error { return closeOnce(&n.file) }

// note opens a file to read what it holds now. It is called with the lock.
func (d *Dir) note(name string) (noted, error) {
	file, err := d.open(d.path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return noted{}, nil
	}
	if err != nil {
		return noted{}, err
	}
	info, err := regularInfo(file)
	if errors.Is(err, errNotRegular) && d.leftEmpty(name) {
		return noted{}, nil
	}
	if err != nil {
		return noted{}, err
	}
	return noted{file, info.Size}, nil
}

func (d *Dir) noteKey(key string) (noted, error) {
	name, err := d.nameOf(key)
	if err != nil {
		return noted{}, err
	}
	return d.note(name)
}

func (d *Dir) bunch() int { return max(1, min(readBunch, d.maxOpen)) }

// eachNoted opens files under the lock, up to n, as many as descriptors allow, then calls
// use with each, and closes it. It returns how many there were.
func (d *Dir) eachNoted(ctx context.Context, n int,
	open func(i int) (noted, error), use func(i int, file *noted) error,
) (int, error) {
	files, err := d.noteBunch(ctx, n, open)
	for i := range files {
		if err == nil {
			err = use(i, &files[i])
		}
		err = cmp.Or(err, files[i].close())
	}
	return len(files), err
}

// noteBunch returns the files, which are to be closed, also after an error.
func (d *Dir) noteBunch(ctx context.Context, n int, open func(i int) (noted, error)) ([]noted, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	files := make([]noted, 0, n)
	for i := range n {
		file, err := open(i)
		if tooManyOpen(err) && i > 0 {
			break // the others in their turn
		}
		if err != nil {
			return files, err
		}
		files = append(files, file)
	}
	return files, nil
}

// Get returns the values of keys. The lock is shared while files are opened, 64
// at a time, and let go of while they are read.
func (d *Dir) Get(ctx context.Context, keys []string) ([][]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for at := 0; at < len(keys); {
		some := keys[at:min(at+d.bunch(), len(keys))]
		open := func(i int) (noted, error) {
			file, err := d.noteKey(some[i])
			return file, d.KeyError(some[i], err)
		}
		n, err := d.eachNoted(ctx, len(some), open, func(i int, file *noted) (err error) {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			values[at+i], err = readNoted(*file)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				values[at+i], err = d.readAgain(ctx, some[i])
			}
			return d.KeyError(some[i], errors.Join(err, file.close()))
		})
		if err != nil {
			return nil, err
		}
		at += n
	}
	return values, nil
}

func readNoted(n noted) ([]byte, error) {
	if n.file == nil || n.size == 0 {
		return nil, nil
	}
	value := make([]byte, n.size)
	return value, readFull(n.file, value, 0)
}

// readAgain reads a value of which a part went away while it was read: a Python
// process replaced it in place.
func (d *Dir) readAgain(ctx context.Context, key string) ([]byte, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, err
	}
	defer d.end()
	return d.readLocked(key)
}

func (d *Dir) readLocked(key string) ([]byte, error) {
	n, err := d.noteKey(key)
	if err != nil {
		return nil, err
	}
	value, err := readNoted(n)
	return value, errors.Join(err, n.close())
}

// Open returns a reader of the value that the key has now. Its errors are what
// fail makes of them.
func (d *Dir) Open(ctx context.Context, key string, fail func(op string, err error) error) (*Reader, error) {
	if err := d.begin(ctx, false); err != nil {
		return nil, d.KeyError(key, err)
	}
	n, err := d.noteKey(key)
	d.end()
	if err != nil {
		return nil, d.KeyError(key, err)
	}
	return &Reader{dir: d, fail: fail, key: key, noted: n}, nil
}

// Has reports whether a key exists.
func (d *Dir) Has(ctx context.Context, key string) (bool, error) {
	if err := d.begin(ctx, false); err != nil {
		return false, d.KeyError(key, err)
	}
	defer d.end()
	n, err := d.noteKey(key)
	exists := n.file != nil
	return exists, d.KeyError(key, errors.Join(err, n.close()))
}

// Reader reads a value as it was when it was opened.
type Reader struct {
	dir    *Dir
	fail   func(op string, err error) error
	key    string
	noted  noted
	at     int64
	closed bool
}

func (r *Reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.fail("read", r.dir.KeyError(r.key, storeerror.ErrClosed))
	}
	left := r.noted.size - r.at
	if left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.noted.file.ReadAt(p[:min(left, int64(len(p)))], r.at)
	r.at += int64(n)
	if n > 0 {
		return n, nil // an error comes again
	}
	if errors.Is(err, io.EOF) {
		err = errCutWhileRead(r.at, r.noted.size)
	}
	return 0, r.fail("read", r.dir.KeyError(r.key, err))
}

// Rewind lets the value be read again from its start.
func (r *Reader) Rewind() error {
	r.at = 0
	return nil
}

// Close closes the file.
func (r *Reader) Close() error {
	r.closed = true
	return r.fail("close", r.dir.KeyError(r.key, r.noted.close()))
}

func errCutWhileRead(at, size int64) error {
	return fmt.Errorf("%w: another process cut the file to %d bytes or fewer while it was read, it had %d: read it again",
		io.ErrUnexpectedEOF, at, size)
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
