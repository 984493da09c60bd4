package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/objstore"
)

// Dir is a directory of HashNamed files. Several processes may use it.
type Dir struct {
	Files string // directory of the files
	Temp  string // directory for incomplete files, on the same disk as Files
}

// Path returns the path of the file with the given hash.
func (d Dir) Path(hash string) string { return filepath.Join(d.Files, hash) }

// Contains reports whether a file with f's name and size exists. It does not check the content.
func (d Dir) Contains(f HashNamed) bool {
	info, err := os.Stat(d.Path(f.Hash))
	return err == nil && info.Size() == f.Size
}

// Open opens a file after verifying its content.
func (d Dir) Open(f HashNamed) (*os.File, error) {
	file, err := os.Open(d.Path(f.Hash))
	if err != nil {
		return nil, err
	}
	err = f.Copy(io.Discard, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Create writes a file and names it after the hash of its content.
func (d Dir) Create(write func(io.Writer) error) (f HashNamed, err error) {
	file, err := os.CreateTemp(d.Temp, "")
	if err != nil {
		return f, err
	}
	sum := sha256.New()
	err = write(io.MultiWriter(file, sum))
	info, err2 := file.Stat()
	f.Hash = hex.EncodeToString(sum.Sum(nil))
	err = vfs.Publish(file.Name(), d.Path(f.Hash), errors.Join(err, err2, file.Sync(), file.Close()))
	if err != nil {
		return HashNamed{}, err
	}
	f.Size = info.Size()
	return f, nil
}

// Fetch downloads a file from a Holder, or continues an interrupted download. Other processes that need the same file
// wait for the download.
func (d Dir) Fetch(ctx context.Context, f HashNamed, holder Holder) error {
	partial := filepath.Join(d.Temp, f.Hash+".part")
	l, err := vfs.WaitLock(ctx, vfs.OS{}, partial+".lock", true)
	if err != nil {
		return err
	}
	defer l.Unlock() //nolint:errcheck // if it fails, other processes wait longer, but nothing is lost
	if d.Contains(f) {
		return nil
	}
	if err := holder.Try(ctx, f, func(ctx context.Context) error { return fetch(ctx, partial, f, holder) }); err != nil {
		return err
	}
	return errors.Join(vfs.Publish(partial, d.Path(f.Hash), nil), os.Remove(partial+".lock"))
}

// fetch completes a partial file. After an error, the partial file remains for the next attempt, unless its content is
// wrong.
func fetch(ctx context.Context, partial string, f HashNamed, holder Holder) error {
	file, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // after success, the file is already synced
	offset, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if offset < f.Size {
		r, err := holder.Open(ctx, f, offset)
		if errors.Is(err, ErrOffset) {
			err = errors.Join(err, file.Truncate(0)) // the next attempt starts from the beginning
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(file, io.LimitReader(r, f.Size-offset))
		err = errors.Join(err, r.Close())
		if err != nil {
			return err
		}
	}
	_, err = file.Seek(0, io.SeekStart)
	if err != nil {
		return err
	}
	if err := f.Copy(io.Discard, file); err != nil {
		return errors.Join(err, file.Truncate(0))
	}
	return file.Sync()
}

// HashNamed is a file whose name is the SHA-256 of its content.
type HashNamed struct {
	Hash string `json:"hash"` // 64 hexadecimal digits
	Size int64  `json:"size"`
}

// ErrDamaged is the error for a HashNamed file whose content does not match its name.
var ErrDamaged = errors.New("the file is damaged: its content does not match its name")

// HashOf returns the name of a file with the given content.
func HashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Copy copies the content of f and verifies it. It stops reading at the first byte beyond f's size.
func (f HashNamed) Copy(to io.Writer, from io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, min(f.Size, math.MaxInt64-1)+1))
	if err == nil && (n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Hash) {
		err = ErrDamaged
	}
	return err
}

// Holder is a source of HashNamed files, such as a bucket or another server.
type Holder interface {
	// Open returns the content of f from offset on. If the source ignores the offset, the error wraps ErrOffset.
	Open(ctx context.Context, f HashNamed, offset int64) (io.ReadCloser, error)
	// Try calls attempt, which opens and reads f. It repeats failed attempts for a time that depends on f's size.
	Try(ctx context.Context, f HashNamed, attempt func(ctx context.Context) error) error
}

// ErrOffset is wrapped by a Holder's error if the response does not start at the requested offset.
var ErrOffset = errors.New("the response starts at another offset")

// Bucket is a bucket of an object store with HashNamed files and other objects. Its methods retry failed requests.
type Bucket struct {
	objstore.Bucket
	Prefix   string // prefix of the names of HashNamed files
	RetryFor time.Duration
}

var _ Holder = Bucket{}

// Retry repeats f while it fails, for a time that depends on size, the number of bytes that f reads or writes.
func (b Bucket) Retry(ctx context.Context, size int64, f func(ctx context.Context) error) error {
	return objstore.Retry(ctx, b.RetryFor, size, nil, f)
}

// ErrDiffers is the error from Bucket.Create if the object exists with other content.
var ErrDiffers = fmt.Errorf("the object has other content: %w", fs.ErrExist)

// Create creates an object. If an object with this name and content exists, Create also succeeds: an earlier attempt
// may have created the object although its response was lost.
func (b Bucket) Create(ctx context.Context, name string, data []byte) error {
	err := b.Retry(ctx, int64(len(data)), func(ctx context.Context) error { return b.Bucket.Create(ctx, name, data) })
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	for range 2 { // read it twice, because the network may have flipped bits
		existing, err2 := b.Read(ctx, name, int64(len(data)))
		if err2 != nil {
			return errors.Join(err, err2)
		}
		if bytes.Equal(existing, data) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", name, ErrDiffers)
}

// Read returns an object, or its first limit+1 bytes if it is larger.
func (b Bucket) Read(ctx context.Context, name string, limit int64) (data []byte, err error) {
	err = b.Retry(ctx, limit, func(ctx context.Context) error {
		r, err := b.ReadRange(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(r, limit+1))
		return errors.Join(err, r.Close())
	})
	return data, err
}

// Objects returns the objects whose names have a prefix.
func (b Bucket) Objects(ctx context.Context, prefix string) (all []objstore.Object, err error) {
	err = b.Retry(ctx, 0, func(ctx context.Context) error {
		all = nil
		for o, err := range b.List(ctx, prefix, "") {
			if err != nil {
				return err
			}
			all = append(all, o)
		}
		return nil
	})
	return all, err
}

// Open implements [Holder].
func (b Bucket) Open(ctx context.Context, f HashNamed, offset int64) (io.ReadCloser, error) {
	return b.ReadRange(ctx, b.Prefix+f.Hash, offset, -1)
}

// Replace replaces a file's damaged object. data is the file's content.
func (b Bucket) Replace(ctx context.Context, f HashNamed, data []byte) error {
	name := b.Prefix + f.Hash
	err := b.Retry(ctx, 0, func(ctx context.Context) error { return b.Delete(ctx, name) })
	if err != nil {
		return err
	}
	return b.Create(ctx, name, data)
}

// Check reads a file and returns an error unless the content is intact.
func (b Bucket) Check(ctx context.Context, f HashNamed) error {
	return b.Try(ctx, f, func(ctx context.Context) error {
		r, err := b.Open(ctx, f, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Copy(io.Discard, r), r.Close())
	})
}

// Try implements [Holder]. If attempt returns ErrDamaged, the error includes the object's name.
func (b Bucket) Try(ctx context.Context, f HashNamed, attempt func(ctx context.Context) error) error {
	return b.Retry(ctx, f.Size, func(ctx context.Context) error {
		err := attempt(ctx)
		if errors.Is(err, ErrDamaged) {
			err = &partd.CorruptError{Path: b.Prefix + f.Hash, Offset: -1, Err: err}
		}
		return err
	})
}
