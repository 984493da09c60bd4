package content

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
)

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
