package partd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/vfs"
)

// readBunch is how many files are opened under one lock.
const readBunch = 64

// noted is a file as it was when the lock was held.
type noted struct {
	file vfs.File // nil: the key does not exist
	size int64
}

func (n *noted) close() error {
	if n.file == nil {
		return nil
	}
	file := n.file
	n.file = nil
	return file.Close()
}

// note opens a file to read what it holds now. It is called with the lock.
func (f *File) note(name string) (noted, error) {
	file, err := f.openRetry(f.path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return noted{}, nil
	}
	if err != nil {
		return noted{}, err
	}
	info, err := regularInfo(file)
	if err != nil {
		return noted{}, err
	}
	return noted{file, info.Size}, nil
}

// bunch returns how many files to open at once.
func (f *File) bunch() int { return max(1, min(readBunch, f.maxOpen)) }

// Get returns the values of keys. The lock is shared while files are opened, 64
// at a time, and let go of while they are read.
func (f *File) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := CheckKeys("get", keys); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	if len(keys) == 0 && f.closed.Load() {
		return nil, f.fail("get", ErrClosed)
	}
	bunch := f.bunch()
	for at := 0; at < len(keys); at += bunch {
		end := min(at+bunch, len(keys))
		if err := f.getBunch(ctx, keys[at:end], values[at:end]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (f *File) getBunch(ctx context.Context, keys []string, values [][]byte) (err error) {
	files := make([]noted, len(keys))
	defer func() {
		for i := range files {
			if closeErr := files[i].close(); closeErr != nil && err == nil {
				err = f.failKey("get", keys[i], closeErr)
			}
		}
	}()
	if err := f.begin(ctx, false); err != nil {
		return f.fail("get", err)
	}
	opened := 0
	for i, key := range keys {
		files[i], err = f.note(f.scheme.Name(key))
		if tooManyOpen(err) && i > 0 {
			err = nil
			break
		}
		if err != nil {
			f.end()
			return f.failKey("get", key, err)
		}
		opened++
	}
	f.end()
	for i := range opened {
		if ctx.Err() != nil {
			return f.fail("get", context.Cause(ctx))
		}
		value, err := readNoted(files[i])
		if errors.Is(err, io.ErrUnexpectedEOF) {
			value, err = f.readAgain(ctx, keys[i])
		}
		if err := errors.Join(err, files[i].close()); err != nil {
			return f.failKey("get", keys[i], err)
		}
		values[i] = value
	}
	if opened < len(keys) { // fewer descriptors than thought: the others in their turn
		return f.getBunch(ctx, keys[opened:], values[opened:])
	}
	return nil
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
func (f *File) readAgain(ctx context.Context, key string) ([]byte, error) {
	if err := f.begin(ctx, false); err != nil {
		return nil, err
	}
	defer f.end()
	return f.readLocked(key)
}

// readLocked reads a value with the lock held.
func (f *File) readLocked(key string) ([]byte, error) {
	n, err := f.note(f.scheme.Name(key))
	if err != nil {
		return nil, err
	}
	value, err := readNoted(n)
	return value, errors.Join(err, n.close())
}

// Open returns a reader of the value that the key has now. It keeps one file
// open, and goes on after the key was deleted or the store closed.
func (f *File) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKeys("open", []string{key}); err != nil {
		return nil, err
	}
	if err := f.begin(ctx, false); err != nil {
		return nil, f.failKey("open", key, err)
	}
	n, err := f.note(f.scheme.Name(key))
	f.end()
	if err != nil {
		return nil, f.failKey("open", key, err)
	}
	return &valueReader{store: f, key: key, noted: n}, nil
}

// valueReader reads a value as it was when it was opened.
type valueReader struct {
	store  *File
	key    string
	noted  noted
	at     int64
	closed bool
}

func (r *valueReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.store.failKey("read", r.key, ErrClosed)
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
	return 0, r.store.failKey("read", r.key, err)
}

// Rewind implements [Rewinder].
func (r *valueReader) Rewind() error {
	r.at = 0
	return nil
}

func (r *valueReader) Close() error {
	r.closed = true
	if err := r.noted.close(); err != nil {
		return r.store.failKey("close", r.key, err)
	}
	return nil
}

func errCutWhileRead(at, size int64) error {
	return fmt.Errorf("%w: another process cut the file to %d bytes or fewer while it was read, it had %d: read it again",
		io.ErrUnexpectedEOF, at, size)
}
