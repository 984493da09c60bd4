package icecat

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/parquet/metadata"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// local returns the path of the file at a location. Even after the warehouse was moved, locations begin with its
// original directory.
func (c *Catalog) local(location string) (string, error) {
	if c.root != "" {
		suffix, ok := strings.CutPrefix(location, c.root+"/")
		if !ok || path.Clean("/"+suffix) != "/"+suffix {
			return "", fmt.Errorf("location %q is outside the warehouse %s: %w", location, c.root, fs.ErrPermission)
		}
		return "/" + suffix, nil
	}
	p, isURL := strings.CutPrefix(location, "file:")
	p = strings.TrimPrefix(p, "//") // Java writes file:/ with one slash
	escaped := strings.TrimPrefix(c.location(""), "file://")
	if suffix, ok := strings.CutPrefix(p, escaped); ok && isURL {
		return filepath.Join(c.dir, suffix), nil // Keep escapes in names such as k=a%2Fb/x.parquet, because engines do not unescape them.
	}
	if isURL {
		var err error
		if p, err = url.PathUnescape(p); err != nil {
			return "", fmt.Errorf("location %q: %w", location, err)
		}
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("location %q is not a local file: %w", location, fs.ErrPermission)
	}
	if suffix, ok := strings.CutPrefix(p, c.originalDir+"/"); ok {
		return filepath.Join(c.dir, suffix), nil
	}
	return filepath.Clean(p), nil
}

// Local returns the path of the file at a location, or of a local copy if the file is in a bucket. The copy exists until release is called.
// release is never nil.
func (c *Catalog) Local(location string) (path string, release func(), err error) {
	if path, err = c.local(location); err != nil {
		return "", func() {}, err
	}
	if r, ok := c.fs.(Remote); ok {
		return r.Pin(path)
	}
	return path, func() {}, nil
}

// DisplayPath returns a file's path, or its location in a bucket, for messages.
func (c *Catalog) DisplayPath(location string) string {
	if path, err := c.local(location); err == nil && c.root == "" {
		return path
	}
	return location
}

// Forget drops the local copy of a file in a bucket, so that the next read fetches the file again.
func (c *Catalog) Forget(location string) {
	if r, ok := c.fs.(Remote); ok {
		if path, err := c.local(location); err == nil {
			r.Forget(path)
		}
	}
}

// ownPath is like local, but for writing or removing a file. It rejects files outside the warehouse, because other engines can put any
// location into metadata.
func (c *Catalog) ownPath(location string) (string, error) {
	if c.readOnly {
		return "", ErrReadOnly
	}
	p, err := c.local(location)
	if err == nil && !strings.HasPrefix(p, c.dir+"/data/") {
		err = fmt.Errorf("location %q is outside the warehouse: %w", location, fs.ErrPermission)
	}
	return p, err
}

// Footer is a parsed Parquet footer.
type Footer struct {
	*metadata.FileMetaData
	Chunks sync.Map // what package datafile found out about the file's column chunks
}

// Footers returns the cache of parsed Parquet footers.
func (f *FileIO) Footers() *Cache[*Footer] { return f.cat.footers }

// Small returns a cache for package datafile: whether files take little memory to read.
func (f *FileIO) Small() *Cache[bool] { return f.cat.small }

// MaxPage returns the maximum size of a page in a file of another engine, in bytes. A file in the catalog has no maximum,
// because puts limit its values.
func (f *FileIO) MaxPage(ctx context.Context, name string) (int64, error) {
	if _, isOwn, err := f.cat.FileAt(ctx, name); isOwn || err != nil {
		return math.MaxInt64, err
	}
	return f.cat.maxPage, nil
}

// Open opens a file for reading.
func (f *FileIO) Open(name string) (iceio.File, error) {
	p, err := f.cat.local(name)
	if err != nil {
		return nil, f.cat.damaged(name, err)
	}
	file, err := f.cat.fs.OpenFile(p, os.O_RDONLY, 0)
	if err != nil {
		return nil, f.cat.damaged(name, err)
	}
	info, err := file.Info()
	var r io.ReaderAt
	if err == nil {
		r, info.Size, err = f.readChecked(name, file, info.Size)
	}
	if err != nil {
		return nil, f.cat.damaged(name, errors.Join(err, file.Close()))
	}
	return &openFile{SectionReader: io.NewSectionReader(r, 0, info.Size), file: file, info: info}, nil
}

// ReadFile returns the content of a file.
func (f *FileIO) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(file)
	return b, errors.Join(err, file.Close())
}

type openFile struct {
	*io.SectionReader
	file vfs.File
	info vfs.Info
}

func (o *openFile) Close() error { return o.file.Close() }

func (o *openFile) Stat() (fs.FileInfo, error) { return fileInfo{o.file.Name(), o.info}, nil }

type fileInfo struct {
	name string
	info vfs.Info
}

func (i fileInfo) Name() string { return filepath.Base(i.name) }

func (i fileInfo) Size() int64 { return i.info.Size }

func (i fileInfo) Mode() fs.FileMode { return i.info.Mode }

func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.info.MTime) }

func (i fileInfo) IsDir() bool { return i.info.Mode.IsDir() }

func (i fileInfo) Sys() any { return nil }

// Check returns an error unless a file with the given size and hash matches w.
func (w WrittenFile) Check(size int64, hash xxh3.Uint128) error {
	switch {
	case size > w.Size:
		return fmt.Errorf("%w: it is larger than the %d bytes that were written", ErrContent, w.Size)
	case size < w.Size:
		return fmt.Errorf("%w: it has %d bytes, but %d were written", ErrContent, size, w.Size)
	case hash != w.Hash:
		return fmt.Errorf("%w: its checksum is %x, but %x was written", ErrContent, hash.Bytes(), w.Hash.Bytes())
	}
	return nil
}

// FileAt returns the catalog's record of a file, and reports whether there is one. Files that other engines wrote have
// no record.
func (c *Catalog) FileAt(ctx context.Context, location string) (WrittenFile, bool, error) {
	w := WrittenFile{Path: location}
	var hash []byte
	err := c.reads.QueryRowContext(ctx, `SELECT size, xxh3 FROM partd_files WHERE path=?`, location).Scan(&w.Size, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return w, false, nil
	}
	if err == nil && len(hash) != 16 {
		err = fmt.Errorf("the catalog's checksum of %s has %d bytes instead of 16", location, len(hash))
	}
	if err != nil {
		return w, false, canceled.Explain(ctx, err)
	}
	w.Hash = xxh3.Uint128{Hi: binary.BigEndian.Uint64(hash), Lo: binary.BigEndian.Uint64(hash[8:])}
	return w, true, nil
}

// MetadataSize returns the size of a table's metadata as JSON, in bytes. It does not read the metadata itself.
func (c *Catalog) MetadataSize(ctx context.Context, namespace, name string) (int64, error) {
	location, err := c.Location(ctx, namespace, name)
	if err != nil {
		return 0, err
	}
	written, isRecorded, err := c.FileAt(ctx, location)
	if err != nil || isRecorded {
		return written.Size, err
	}
	p, err := c.local(location)
	if err != nil {
		return 0, c.damaged(location, err)
	}
	info, err := c.fs.Info(p)
	return info.Size, c.damaged(location, err)
}

// readChecked compares a metadata file with the catalog's record, because the decoding libraries panic on damaged
// files. Other engines' manifests and manifest lists have no record; readChecked vets them instead. Files in a bucket
// were compared when they were fetched. It returns the content and its size.
func (f *FileIO) readChecked(location string, file vfs.File, size int64) (io.ReaderAt, int64, error) {
	ext := path.Ext(location)
	if ext != ".avro" && (ext != ".json" || f.cat.root != "") {
		return file, size, nil
	}
	written, isRecorded, err := f.cat.FileAt(context.Background(), location)
	if err != nil || isRecorded && f.cat.root != "" {
		return file, size, err
	}
	limit := int64(maxManifestBytes)
	if !isRecorded && size > limit {
		return nil, 0, fmt.Errorf("%w: it is larger than %d bytes", ErrContent, limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, size), b); err != nil {
		return nil, 0, err
	}
	switch {
	case isRecorded:
		err = written.Check(size, xxh3.Hash128(b))
	case ext == ".avro" && !f.wrote(location):
		normalized, vetErr := f.vet(location, b)
		if vetErr == nil {
			b = normalized
		} else if !f.skipVet {
			err = fmt.Errorf("%w: %w", ErrContent, vetErr)
		}
	}
	return bytes.NewReader(b), int64(len(b)), err
}

// NewLocation returns a location for a new table. The location does not contain the table's name, so renaming moves no files.
func (c *Catalog) NewLocation() string {
	return c.location("data/" + uuid.NewString())
}

func (c *Catalog) location(name string) string {
	if c.root != "" {
		return c.root + "/" + name
	}
	u := url.URL{Scheme: "file", Path: c.originalDir + "/" + name}
	return u.String()
}
