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
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/parquet/metadata"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/vfs"
)

// local returns the file that a location is about. Where the warehouse was
// moved, the locations still begin with the directory that it was made in.
func (c *Catalog) local(location string) (string, error) {
	if c.root != "" {
		rest, ok := strings.CutPrefix(location, c.root+"/")
		if !ok || path.Clean("/"+rest) != "/"+rest {
			return "", fmt.Errorf("location %q is outside of the warehouse %s: %w", location, c.root, fs.ErrPermission)
		}
		return "/" + rest, nil
	}
	p, isURL := strings.CutPrefix(location, "file:")
	p = strings.TrimPrefix(p, "//") // Java's have a slash of three
	escaped := strings.TrimPrefix(c.location(""), "file://")
	if rest, ok := strings.CutPrefix(p, escaped); ok && isURL {
		return filepath.Join(c.dir, rest), nil // every engine takes a name as it stands, such as k=a%2Fb/x.parquet
	}
	if isURL {
		var err error
		if p, err = url.PathUnescape(p); err != nil {
			return "", fmt.Errorf("location %q: %w", location, err)
		}
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("location %q is not that of a local file: %w", location, fs.ErrPermission)
	}
	if rest, ok := strings.CutPrefix(p, c.madeIn+"/"); ok {
		return filepath.Join(c.dir, rest), nil
	}
	return filepath.Clean(p), nil
}

// Local returns the path on this machine of the file that a location is about. A copy
// stays until release is called, which is never nil.
func (c *Catalog) Local(location string) (path string, release func(), err error) {
	if path, err = c.local(location); err != nil {
		return "", func() {}, err
	}
	if r, ok := c.fs.(Remote); ok {
		return r.Pin(path)
	}
	return path, func() {}, nil
}

// Shown returns where a file is, for people.
func (c *Catalog) Shown(location string) string {
	if path, err := c.local(location); err == nil && c.root == "" {
		return path
	}
	return location
}

// Forget has a file read from the warehouse when it is read next, not from a copy.
func (c *Catalog) Forget(location string) {
	if r, ok := c.fs.(Remote); ok {
		if path, err := c.local(location); err == nil {
			r.Forget(path)
		}
	}
}

// own is local for a file that is to be written or removed, which must lie in
// the warehouse whatever metadata made by others says.
func (c *Catalog) own(location string) (string, error) {
	if c.readOnly {
		return "", ErrReadOnly
	}
	p, err := c.local(location)
	if err == nil && !strings.HasPrefix(p, c.dir+"/data/") {
		err = fmt.Errorf("location %q is outside of the warehouse: %w", location, fs.ErrPermission)
	}
	return p, err
}

// Ends has what the ends of Parquet files say.
func (f *FileIO) Ends() *Cache[*metadata.FileMetaData] { return f.cat.ends }

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
		r, err = f.cat.checked(name, file, info.Size)
	}
	if err != nil {
		return nil, f.cat.damaged(name, errors.Join(err, file.Close()))
	}
	return &openFile{SectionReader: io.NewSectionReader(r, 0, info.Size), file: file, info: info}, nil
}

// ReadFile returns what a file holds.
func (f *FileIO) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(file)
	return b, errors.Join(err, file.Close())
}

// openFile is a file being read.
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

// Check returns why a file of n bytes with a hash is not w.
func (w WrittenFile) Check(n int64, hash xxh3.Uint128) error {
	switch {
	case n > w.Size:
		return fmt.Errorf("%w: it has more than the %d bytes that were written", ErrContent, w.Size)
	case n < w.Size:
		return fmt.Errorf("%w: it has %d bytes, and %d were written", ErrContent, n, w.Size)
	case hash != w.Hash:
		return fmt.Errorf("%w: its checksum is %x, and %x was written", ErrContent, hash.Bytes(), w.Hash.Bytes())
	}
	return nil
}

// FileAt returns what the catalog keeps of a file, and whether it does: not of those
// that others wrote.
func (c *Catalog) FileAt(ctx context.Context, location string) (WrittenFile, bool, error) {
	w := WrittenFile{Path: location}
	var hash []byte
	err := c.reads.QueryRowContext(ctx, `SELECT size, xxh3 FROM partd_files WHERE path=?`, location).Scan(&w.Size, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return w, false, nil
	}
	if err == nil && len(hash) != 16 {
		err = fmt.Errorf("the catalog: the checksum of %s has %d bytes, it should have 16", location, len(hash))
	}
	if err != nil {
		return w, false, canceled.Explain(ctx, err)
	}
	w.Hash = xxh3.Uint128{Hi: binary.BigEndian.Uint64(hash), Lo: binary.BigEndian.Uint64(hash[8:])}
	return w, true, nil
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

// NewLocation returns where a new table goes: a path that no name is part of.
func (c *Catalog) NewLocation() string {
	return c.location("data/" + uuid.NewString())
}

// location is that of a file of the warehouse.
func (c *Catalog) location(name string) string {
	if c.root != "" {
		return c.root + "/" + name
	}
	u := url.URL{Scheme: "file", Path: c.madeIn + "/" + name}
	return u.String()
}
