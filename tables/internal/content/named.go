package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/objstore"
)

// Dir is a directory of Named files, which any number of processes share.
type Dir struct {
	Files string // the directory
	Temp  string // another one on the same disk, for files that are not whole
}

// Path returns where a file is.
func (d Dir) Path(hash string) string { return filepath.Join(d.Files, hash) }

// Has reports whether there is a file of the name and size. Nobody has looked into it.
func (d Dir) Has(f Named) bool {
	info, err := os.Stat(d.Path(f.Hash))
	return err == nil && info.Size() == f.Size
}

// Open opens a file, once it was read and is right.
func (d Dir) Open(f Named) (*os.File, error) {
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

// Create writes a file that is named by what is written.
func (d Dir) Create(write func(io.Writer) error) (f Named, err error) {
	file, err := os.CreateTemp(d.Temp, "")
	if err != nil {
		return f, err
	}
	sum := sha256.New()
	err = write(io.MultiWriter(file, sum))
	info, err2 := file.Stat()
	f.Hash = hex.EncodeToString(sum.Sum(nil))
	if err = vfs.Place(file.Name(), d.Path(f.Hash), errors.Join(err, err2, file.Sync(), file.Close())); err != nil {
		return Named{}, err
	}
	f.Size = info.Size()
	return f, nil
}

// Fetch brings a file here. One process does at a time, and goes on with what another one
// left.
func (d Dir) Fetch(ctx context.Context, f Named, from Holder) error {
	part := filepath.Join(d.Temp, f.Hash+".part")
	l, err := vfs.WaitLock(ctx, vfs.OS{}, part+".lock", true)
	if err != nil {
		return err
	}
	defer l.Unlock() //nolint:errcheck // another process waits for it, or none
	if d.Has(f) {
		return nil
	}
	if err := from.Try(ctx, f, func(ctx context.Context) error { return fetch(ctx, part, f, from) }); err != nil {
		return err
	}
	return errors.Join(vfs.Place(part, d.Path(f.Hash), nil), os.Remove(part+".lock"))
}

// fetch goes on where a part of a file ends, and leaves what came for another try unless
// it is wrong.
func fetch(ctx context.Context, part string, f Named, from Holder) error {
	file, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // synced, or not used
	at, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if at < f.Size {
		r, err := from.Open(ctx, f, at)
		if errors.Is(err, ErrOffset) {
			err = errors.Join(err, file.Truncate(0)) // the next try begins anew
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(file, io.LimitReader(r, f.Size-at))
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	if _, err = file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := f.Copy(io.Discard, file); err != nil {
		return errors.Join(err, file.Truncate(0))
	}
	return file.Sync()
}

// Named is a file that has the SHA-256 of what is in it as its name.
type Named struct {
	Hash string `json:"hash"` // 64 hexadecimal digits
	Size int64  `json:"size"`
}

// ErrDamaged is the error of a Named file that is not what its name says.
var ErrDamaged = errors.New("the file is damaged: its content is not what its name says")

// HashOf returns the name of a file.
func HashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Copy copies what has to be the file, at most its size and a byte more.
func (f Named) Copy(to io.Writer, from io.Reader) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, min(f.Size, math.MaxInt64-1)+1))
	if err == nil && (n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Hash) {
		err = ErrDamaged
	}
	return err
}

// Holder has Named files elsewhere.
type Holder interface {
	// Open returns what a file has from an offset on. Its error wraps ErrOffset where it
	// could have had something else alone.
	Open(ctx context.Context, f Named, offset int64) (io.ReadCloser, error)
	// Try calls once, which opens a file and reads it, or calls it again, for as long as
	// the file may take.
	Try(ctx context.Context, f Named, once func(ctx context.Context) error) error
}

// ErrOffset is wrapped by the error of a Holder for an offset that it did not go to.
var ErrOffset = errors.New("it sent something else")

// Bucket is a bucket with Named files, among other objects. Requests are tried again.
type Bucket struct {
	objstore.Bucket
	Prefix   string // of the names of the files' objects
	RetryFor time.Duration
}

var _ Holder = Bucket{}

func (b Bucket) retry(ctx context.Context, size int64, f func(ctx context.Context) error) error {
	return objstore.Retry(ctx, b.RetryFor, size, nil, f)
}

// Create makes an object. Where there is one it has to be the same, as after an answer
// that was lost.
func (b Bucket) Create(ctx context.Context, name string, data []byte) error {
	err := b.retry(ctx, int64(len(data)), func(ctx context.Context) error { return b.Bucket.Create(ctx, name, data) })
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	has, err2 := b.Read(ctx, name, int64(len(data)))
	if err2 == nil && bytes.Equal(has, data) {
		return nil
	}
	return errors.Join(err, err2)
}

// Read returns an object, or one byte more than most of it.
func (b Bucket) Read(ctx context.Context, name string, most int64) (data []byte, err error) {
	err = b.retry(ctx, most, func(ctx context.Context) error {
		r, err := b.ReadRange(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		data, err = io.ReadAll(io.LimitReader(r, most+1))
		return errors.Join(err, r.Close())
	})
	return data, err
}

// Objects returns the objects whose names begin with a prefix.
func (b Bucket) Objects(ctx context.Context, prefix string) (all []objstore.Object, err error) {
	err = b.retry(ctx, 0, func(ctx context.Context) error {
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

// Open is that of a [Holder].
func (b Bucket) Open(ctx context.Context, f Named, offset int64) (io.ReadCloser, error) {
	return b.ReadRange(ctx, b.Prefix+f.Hash, offset, -1)
}

// Replace makes a file's object in place of one that is damaged.
func (b Bucket) Replace(ctx context.Context, f Named, data []byte) error {
	name := b.Prefix + f.Hash
	err := b.retry(ctx, 0, func(ctx context.Context) error { return b.Delete(ctx, name) })
	if err == nil {
		err = b.Create(ctx, name, data)
	}
	return err
}

// Check reads a file.
func (b Bucket) Check(ctx context.Context, f Named) error {
	return b.Try(ctx, f, func(ctx context.Context) error {
		r, err := b.Open(ctx, f, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Copy(io.Discard, r), r.Close())
	})
}

// Try is that of a [Holder]. It names the object that is damaged.
func (b Bucket) Try(ctx context.Context, f Named, once func(ctx context.Context) error) error {
	return b.retry(ctx, f.Size, func(ctx context.Context) error {
		err := once(ctx)
		if errors.Is(err, ErrDamaged) {
			err = &partd.CorruptError{Path: b.Prefix + f.Hash, Offset: -1, Err: err}
		}
		return err
	})
}
