package icecat

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// ErrContent means that a file's content differs from what was written.
var ErrContent = errors.New("the file is damaged")

// FilesLike returns the locations of files whose records have the same size and hash as w. The files may no longer exist.
func (c *Catalog) FilesLike(ctx context.Context, w WrittenFile) ([]string, error) {
	hash := w.Hash.Bytes()
	return c.strings(ctx, `SELECT path FROM partd_files WHERE xxh3=? AND size=? LIMIT 16`, hash[:], w.Size)
}

// RecordFiles adds records of the files that f has written, although these files are not committed yet.
func (c *Catalog) RecordFiles(ctx context.Context, f *FileIO) error {
	return c.inTx(ctx, func(w *transaction) { f.record(w, "") })
}

// Protect restarts the grace period of a file: no Sweep removes the file before the period ends. Protect returns false
// if a Sweep is already removing the file.
func (c *Catalog) Protect(ctx context.Context, location string) (exists bool, err error) {
	path, err := c.local(location)
	if err != nil {
		return false, err
	}
	err = c.inTx(ctx, func(w *transaction) {
		w.exec(`DELETE FROM partd_orphans WHERE path=?`, path)
		exists = len(w.strings(`SELECT path FROM partd_files WHERE path=?`, location)) > 0
	})
	return exists, err
}

// CopyOf looks up the table whose metadata is at location. If that table is an unchanged copy from another warehouse,
// CopyOf returns the original's metadata location. Otherwise it returns "".
func (c *Catalog) CopyOf(ctx context.Context, location string) (string, error) {
	return c.firstString(ctx, `SELECT source FROM partd_copies WHERE location=?`, location)
}

// State is a metadata location that a table or its snapshots refer to.
type State struct {
	Name     string
	Location string
	Pinned   bool // only snapshots refer to the location, so only the newest version in the metadata is needed
}

// States returns the metadata locations that a namespace's tables and snapshots refer to, without duplicates. A table's
// current location comes first.
func (c *Catalog) States(ctx context.Context, namespace string) (states []State, err error) {
	encoded, err := c.strings(ctx, selectStates, namespace)
	for _, s := range encoded {
		loc, name, _ := strings.Cut(s, stateSeparator)
		alive, name := name[0], name[1:]
		states = append(states, State{name, loc, alive == '0'})
	}
	return states, err
}

// RestoreMetadataFile recreates a lost metadata file from the copy in the database, if there is one.
func (c *Catalog) RestoreMetadataFile(ctx context.Context, location string) error {
	_, _, err := c.loadInline(ctx, "", "", location)
	return err
}

// WriteVerified writes and syncs a file with the content of r, which must match w. If WriteVerified fails, it removes
// the file. f must not be used concurrently.
func (f *FileIO) WriteVerified(w WrittenFile, r io.Reader) error {
	file, err := f.Create(w.Path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, io.LimitReader(r, w.Size+1))
	if err = errors.Join(err, file.Close(), f.Sync()); err == nil {
		written := f.Written()
		last := written[len(written)-1]
		err = w.Check(last.Size, last.Hash)
	}
	if err != nil {
		_ = f.Remove(w.Path)
	}
	return err
}

// Replace replaces a file's content with that of r. If r does not match w, Replace keeps the old file. f must not be used
// concurrently.
func (f *FileIO) Replace(w WrittenFile, r io.Reader) error {
	path, err := f.cat.ownPath(w.Path)
	if err != nil {
		return err
	}
	temporary := w
	temporary.Path += ".part-" + uuid.NewString() // If the process is killed, Sweep removes this file.
	if err := f.WriteVerified(temporary, r); err != nil {
		return err
	}
	if _, ok := f.cat.fs.(Remote); ok {
		return f.removeAndRewrite(w, temporary)
	}
	temporaryPath, err := f.cat.ownPath(temporary.Path)
	if err == nil {
		err = f.cat.fs.Rename(temporaryPath, path)
	}
	if err != nil {
		_ = f.Remove(temporary.Path)
		return err
	}
	return f.cat.fs.SyncDir(filepath.Dir(path))
}

// removeAndRewrite replaces a file in a bucket, where files cannot be renamed. In between, the file does not exist.
func (f *FileIO) removeAndRewrite(w, temporary WrittenFile) error {
	content, err := f.Open(temporary.Path)
	if err != nil {
		return err
	}
	if err = f.Remove(w.Path); err == nil {
		err = f.WriteVerified(w, content)
	}
	return errors.Join(err, content.Close(), f.Remove(temporary.Path))
}

// Damaged is the error for a table with a damaged file. It does not wrap fs.ErrNotExist, because the table exists even if the file is
// missing.
type Damaged struct {
	File   string // path of the file, or description of what is damaged
	Err    error  // the cause
	Remedy string // what the user can do; "" means to repair the file
}

// RemedyUnrepairable is the remedy for damage that cannot be repaired.
const RemedyUnrepairable = "delete the table, or restore it from a backup"

func (d *Damaged) Error() string {
	remedy := cmp.Or(d.Remedy, "repair it with verify --repair-from, or restore the table from a backup")
	if errors.Is(d.Err, ErrContent) {
		return fmt.Sprintf("%s: %v; %s", d.File, d.Err, remedy)
	}
	return fmt.Sprintf("%s: %v: %v; %s", d.File, ErrContent, d.Err, remedy)
}

// Is reports whether target is ErrContent.
func (d *Damaged) Is(target error) bool { return target == ErrContent }

// Unwrap returns the cause, unless it is a missing file.
func (d *Damaged) Unwrap() error {
	if errors.Is(d.Err, fs.ErrNotExist) {
		return nil
	}
	return d.Err
}

// CatchPanic calls f and converts a panic to an error, because Iceberg's and Arrow's libraries panic on some invalid files.
func CatchPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file cannot be read: %v", p)
		}
	}()
	return f()
}

// damaged converts err to a Damaged error if the file itself is the cause. Other errors, such as network errors of a bucket, may be
// temporary.
func (c *Catalog) damaged(location string, err error) error {
	if errors.As(err, new(*Damaged)) {
		return err
	}
	isFileFault := errors.As(err, new(*partd.CorruptError)) // the error for a damaged file in a bucket
	for _, cause := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EIO, syscall.EISDIR, ErrContent} {
		isFileFault = isFileFault || errors.Is(err, cause)
	}
	if isFileFault {
		return &Damaged{File: c.DisplayPath(location), Err: err}
	}
	return err
}

// If a table's metadata is in the database, loadInline returns the table. Otherwise it returns nil. If the metadata
// file is lost, loadInline writes it again, because other engines read it.
func (c *Catalog) loadInline(ctx context.Context, namespace, name, location string) (*table.Table, int64, error) {
	var recorded []byte
	err := c.reads.QueryRowContext(ctx, `SELECT metadata FROM partd_light WHERE location=?`, location).Scan(&recorded)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, canceled.Explain(ctx, err)
	}
	meta, err := table.ParseMetadataBytes(recorded)
	if err != nil {
		return nil, 0, &Damaged{File: "the table's metadata in the catalog", Err: err, Remedy: RemedyUnrepairable}
	}
	if stored, err := c.reader.ReadFile(location); !c.readOnly && (err != nil || !bytes.Equal(stored, recorded)) {
		fileIO := c.NewIO()
		_ = fileIO.Remove(location)
		_ = errors.Join(fileIO.WriteFile(location, recorded), fileIO.Sync()) // If this fails, the next load tries again.
	}
	return c.Staged(namespace, name, meta, location, c.reader), int64(len(recorded)), nil
}
