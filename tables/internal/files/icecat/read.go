package icecat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/parquet/metadata"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Footer is a parsed Parquet footer.
type Footer struct {
	*metadata.FileMetaData
	Chunks sync.Map // package datafile's descriptions of column chunks
}

// Footers returns the cache of parsed Parquet footers.
func (f *FileIO) Footers() *Cache[*Footer] { return f.records.footers }

// Small returns package datafile's cache, which says whether a file takes little memory to read.
func (f *FileIO) Small() *Cache[bool] { return f.records.small }

// MaxPage returns the maximum size, in bytes, of a page in another engine's file. A file that this catalog wrote has no
// maximum, because puts limit its values.
func (f *FileIO) MaxPage(ctx context.Context, name string) (int64, error) {
	if _, isOwn, err := f.records.FileAt(ctx, name); isOwn || err != nil {
		return math.MaxInt64, err
	}
	return f.records.maxPage, nil
}

// Open opens a file for reading.
func (f *FileIO) Open(name string) (iceio.File, error) {
	p, err := f.records.local(name)
	if err != nil {
		return nil, f.records.damaged(name, err)
	}
	file, err := f.records.fs.OpenFile(p, os.O_RDONLY, 0)
	if err != nil {
		return nil, f.records.damaged(name, err)
	}
	info, err := file.Info()
	var r io.ReaderAt
	if err == nil {
		r, info.Size, err = f.readChecked(name, file, info.Size)
	}
	if err != nil {
		return nil, f.records.damaged(name, errors.Join(err, file.Close()))
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

// readChecked compares a metadata file with the catalog's record, because the decoding libraries panic on damaged
// files. Other engines' manifests and manifest lists have no record, so readChecked vets them instead. Files in a
// bucket are not checked again, because they were compared when they were fetched. It returns the content and its size.
func (f *FileIO) readChecked(location string, file vfs.File, size int64) (io.ReaderAt, int64, error) {
	ext := path.Ext(location)
	if ext != ".avro" && (ext != ".json" || f.records.root != "") {
		return file, size, nil
	}
	written, isRecorded, err := f.records.FileAt(context.Background(), location)
	if err != nil || isRecorded && f.records.root != "" {
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
