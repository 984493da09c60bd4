package icecat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// Damaged is the error for a table that cannot be read because of one of its files. It
// concerns that table alone. It does not wrap fs.ErrNotExist where the file is missing:
// the table is there.
type Damaged struct {
	File   string // its path; or what else of the table is damaged
	Err    error  // what is wrong with it
	Remedy string // what to do; "" is to repair the file
}

// Unusable is the remedy for what cannot be repaired.
const Unusable = "delete the table, or restore it from a backup"

func (d *Damaged) Error() string {
	remedy := cmp.Or(d.Remedy, "repair it with verify --repair-from, or restore the table from a backup")
	if errors.Is(d.Err, ErrContent) {
		return fmt.Sprintf("%s: %v; %s", d.File, d.Err, remedy)
	}
	return fmt.Sprintf("%s: %v: %v; %s", d.File, ErrContent, d.Err, remedy)
}

// Is reports that the error wraps ErrContent.
func (d *Damaged) Is(target error) bool { return target == ErrContent }

// Unwrap returns the cause, unless it is that a file is missing.
func (d *Damaged) Unwrap() error {
	if errors.Is(d.Err, fs.ErrNotExist) {
		return nil
	}
	return d.Err
}

// Safely returns what f says, or panics with: the libraries do where files lie.
func Safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return f()
}

// damaged makes a Damaged of an error that is the fault of a file, and no other. What else
// can go wrong with a bucket may be right again a moment later.
func (c *Catalog) damaged(location string, err error) error {
	if errors.As(err, new(*Damaged)) {
		return err
	}
	fault := errors.As(err, new(*partd.CorruptError)) // of a bucket
	for _, is := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EIO, syscall.EISDIR, ErrContent} {
		fault = fault || errors.Is(err, is)
	}
	if fault {
		return &Damaged{File: c.Shown(location), Err: err}
	}
	return err
}

// checked reads a file of metadata, and compares it with what the catalog has of it: the
// libraries that decode it believe what they read, and panic. In buckets all that is read
// was compared before.
func (c *Catalog) checked(location string, file vfs.File, size int64) (io.ReaderAt, error) {
	if ext := path.Ext(location); c.root != "" || ext != ".avro" && ext != ".json" {
		return file, nil
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, size), b); err != nil {
		return nil, err
	}
	known, has, err := c.FileAt(context.Background(), location)
	if err == nil && has {
		err = known.Check(size, xxh3.Hash128(b))
	}
	return bytes.NewReader(b), err
}
