package icecat

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"
)

// FileAt returns the catalog's record of a file and reports whether there is one. Files from other engines have no
// record.
func (r *records) FileAt(ctx context.Context, location string) (WrittenFile, bool, error) {
	w := WrittenFile{Path: location}
	var hash []byte
	err := r.readPool.QueryRowContext(ctx, `SELECT size, xxh3 FROM partd_files WHERE path=?`, location).Scan(&w.Size, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return w, false, nil
	}
	if err == nil && len(hash) != 16 {
		err = fmt.Errorf("the catalog's checksum of %s has %d bytes instead of 16", location, len(hash))
	}
	if err != nil {
		return w, false, explain(ctx, err)
	}
	w.Hash = xxh3.Uint128{Hi: binary.BigEndian.Uint64(hash), Lo: binary.BigEndian.Uint64(hash[8:])}
	return w, true, nil
}

// FilesLike returns the locations of files whose records have the same size and hash as w. The files may no longer
// exist.
func (r *records) FilesLike(ctx context.Context, w WrittenFile) ([]string, error) {
	hash := w.Hash.Bytes()
	return r.queryStrings(ctx, `SELECT path FROM partd_files WHERE xxh3=? AND size=? LIMIT 16`, hash[:], w.Size)
}

// RecordFiles adds records of the files that f has written, although these files are not committed yet.
func (r *records) RecordFiles(ctx context.Context, f *FileIO) error {
	return r.inTx(ctx, func(t *transaction) { f.record(t, "") })
}

// Protect restarts a file's grace period: no Sweep removes the file before the period ends. Protect returns false if a
// Sweep is already removing the file.
func (r *records) Protect(ctx context.Context, location string) (exists bool, err error) {
	path, err := r.local(location)
	if err != nil {
		return false, err
	}
	err = r.inTx(ctx, func(t *transaction) {
		t.exec(`DELETE FROM partd_orphans WHERE path=?`, path)
		exists = t.exec(`UPDATE partd_files SET uuid='' WHERE path=?`, location) > 0 // without a UUID, isReplaced returns false
	})
	return exists, err
}

// Size returns the size of the file at a location. For a file in a bucket, it asks the bucket.
func (w *warehouse) Size(location string) (int64, error) {
	path, err := w.local(location)
	if err != nil {
		return 0, err
	}
	if r, ok := w.fs.(Remote); ok {
		return r.Size(path)
	}
	info, err := w.fs.Info(path)
	return info.Size, err
}

// CopyOf looks up the table whose metadata is at location. If the table is an unchanged copy from another warehouse,
// CopyOf returns the original's metadata location. Otherwise, it returns "".
func (r *records) CopyOf(ctx context.Context, location string) (string, error) {
	return r.firstString(ctx, `SELECT source FROM partd_copies WHERE location=?`, location)
}

// WriteVerified writes and syncs a file with the content of r, which must match w. If WriteVerified fails, it removes
// the file. f must not be used concurrently.
func (f *FileIO) WriteVerified(w WrittenFile, r io.Reader) error {
	file, err := f.Create(w.Path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, io.LimitReader(r, w.Size+1))
	err = errors.Join(err, file.Close(), f.Sync())
	if err == nil {
		written := f.Written()
		last := written[len(written)-1]
		err = w.Check(last.Size, last.Hash)
	}
	if err != nil {
		_ = f.Remove(w.Path) // Sweep removes what remains
	}
	return err
}

// Replace replaces a file's content with that of r. If r does not match w, Replace keeps the old file. f must not be
// used concurrently.
func (f *FileIO) Replace(w WrittenFile, r io.Reader) error {
	path, err := f.records.ownPath(w.Path)
	if err != nil {
		return err
	}
	temporary := w
	temporary.Path += ".part-" + uuid.NewString() // If the process is killed, Sweep removes this file.
	if err := f.WriteVerified(temporary, r); err != nil {
		return err
	}
	if _, ok := f.records.fs.(Remote); ok {
		return f.removeAndRewrite(w, temporary)
	}
	temporaryPath, err := f.records.ownPath(temporary.Path)
	if err == nil {
		err = f.records.fs.Rename(temporaryPath, path)
	}
	if err != nil {
		_ = f.Remove(temporary.Path) // Sweep removes what remains
		return err
	}
	return f.records.fs.SyncDir(filepath.Dir(path))
}

// removeAndRewrite replaces a file in a bucket, where files cannot be renamed. In between, the file does not exist.
func (f *FileIO) removeAndRewrite(w, temporary WrittenFile) error {
	content, err := f.Open(temporary.Path)
	if err != nil {
		return err
	}
	err = f.Remove(w.Path)
	if err == nil {
		err = f.WriteVerified(w, content)
	}
	return errors.Join(err, content.Close(), f.Remove(temporary.Path))
}

// recorded returns a file's recorded size and hash. It is passed to Remote.Expect.
func (r *records) recorded(name string) (size int64, hash xxh3.Uint128, known bool, err error) {
	w, known, err := r.FileAt(context.Background(), r.location(strings.TrimPrefix(name, "/")))
	return w.Size, w.Hash, known, err
}

// record adds records of the files that f wrote for a table. uuid is the table's UUID, or "" if the files do not belong
// to a table yet.
func (f *FileIO) record(t *transaction, uuid string) {
	for _, file := range f.Written() {
		hash := file.Hash.Bytes()
		t.exec(upsertFile, file.Path, uuid, file.Size, hash[:])
		path, err := f.records.ownPath(file.Path)
		t.err = cmp.Or(t.err, err)
		// A Sweep may have recorded the file as an orphan before this commit.
		t.exec(`DELETE FROM partd_orphans WHERE path=?`, path)
	}
}
