package pull

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// store puts a file into the storage, and a marker (see openDisk) into the directory.
func (d *disk) store(ctx context.Context, f content.Named, data []byte) error {
	marker, err := d.openMarker(f.Hash)
	if err != nil {
		return err
	}
	err = d.storage.Create(ctx, d.storage.Prefix+f.Hash, data)
	if errors.Is(err, fs.ErrExist) { // the existing object may be damaged
		err = d.storage.Replace(ctx, f, data)
	}
	if err != nil {
		err = &fs.PathError{Op: "store", Path: d.storage.Prefix + f.Hash, Err: err}
	} else {
		err = marker.Truncate(f.Size) // sets the size without writing data
	}
	return errors.Join(err, marker.Close())
}

// openMarker opens or creates a file's marker. It updates the marker's time under the
// lock, so that a concurrent sweep either has already removed the marker or keeps it.
func (d *disk) openMarker(hash string) (marker *os.File, err error) {
	err = d.withLock(func() error {
		if marker, err = os.OpenFile(d.Path(hash), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
			return err
		}
		now := time.Now()
		return os.Chtimes(marker.Name(), now, now)
	})
	if err != nil && marker != nil {
		err = errors.Join(err, marker.Close())
	}
	return marker, err
}

// Create creates a file and names it by the hash of its content.
func (d *disk) Create(ctx context.Context, write func(io.Writer) error) (content.Named, error) {
	if d.storage == nil {
		return d.Dir.Create(write)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return content.Named{}, err
	}
	f := content.Named{Hash: content.HashOf(b.Bytes()), Size: int64(b.Len())}
	return f, d.store(ctx, f, b.Bytes())
}

// Fetch copies a file from a holder: another node, a backup or the storage.
func (d *disk) Fetch(ctx context.Context, f content.Named, from content.Holder) error {
	if d.storage == nil {
		return d.Dir.Fetch(ctx, f, from)
	}
	if f.Size > MaxFrame { // No Save writes a larger file.
		return partd.ErrTooLarge
	}
	data, err := readAll(d.openCopy(ctx, f, from))
	if err != nil {
		return err
	}
	return d.store(ctx, f, data)
}

// Open opens a file after checking its content.
func (d *disk) Open(ctx context.Context, f content.Named) (*os.File, error) {
	if d.storage == nil {
		return d.Dir.Open(f)
	}
	file, err := d.openCopy(ctx, f, *d.storage)
	if err == nil {
		return file, nil
	}
	if file, err := d.Dir.Open(f); err == nil { // the file was written before the node had a storage
		return file, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		_ = os.Remove(d.Path(f.Hash)) // the storage lost the file; the node can fetch it again
	}
	return nil, err
}

// openCopy copies a file from a holder into a temporary file, and opens the copy.
func (d *disk) openCopy(ctx context.Context, f content.Named, from content.Holder) (*os.File, error) {
	dir, err := os.MkdirTemp(d.Temp, "")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // if this fails, a sweep removes the directory later
	here := content.Dir{Files: dir, Temp: dir}
	if err := here.Fetch(ctx, f, from); err != nil {
		return nil, err
	}
	return os.Open(here.Path(f.Hash))
}

// openServed opens a file for another node. It need not check the hash, because the other
// node checks what it receives.
func (d *disk) openServed(ctx context.Context, hash string) (*os.File, error) {
	if d.storage == nil {
		return os.Open(d.Path(hash))
	}
	info, err := os.Stat(d.Path(hash))
	if err != nil {
		return nil, err
	}
	return d.Open(ctx, content.Named{Hash: hash, Size: info.Size()})
}

func (d *disk) remove(ctx context.Context, hash string) error {
	if d.storage != nil {
		if err := objstore.Retry(ctx, d.storage.RetryFor, 0, nil, func(ctx context.Context) error { return d.storage.Delete(ctx, d.storage.Prefix+hash) }); err != nil {
			return err
		}
	}
	if err := os.Remove(d.Path(hash)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
