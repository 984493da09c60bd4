package tables

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// File is a file that a store's catalog knows by its content.
type File struct {
	Bucket, Table string
	Location      string // as Iceberg's metadata has it
	Size          int64
	XXH3          [16]byte // of the content: its xxh3-128, most significant byte first
}

// Source returns the content of a file from elsewhere. Who calls it looks at what it
// reads, and closes it. Where there is no such file, the error wraps fs.ErrNotExist.
type Source func(ctx context.Context, f File) (io.ReadCloser, error)

func (f File) written() icecat.WrittenFile {
	hash := xxh3.Uint128{Hi: binary.BigEndian.Uint64(f.XXH3[:8]), Lo: binary.BigEndian.Uint64(f.XXH3[8:])}
	return icecat.WrittenFile{Path: f.Location, Size: f.Size, Hash: hash}
}

func fileOf(n tableName, w icecat.WrittenFile) File {
	return File{bucketOf(n.Namespace), n.Name, w.Path, w.Size, w.Hash.Bytes()}
}

// Source returns files of the store by their content, wherever they are in it.
func (s *Store) Source() Source {
	return func(ctx context.Context, f File) (io.ReadCloser, error) {
		like, err := s.cat.FilesLike(ctx, f.written())
		if err != nil {
			return nil, err
		}
		failed := fmt.Errorf("the store in %s has no file of this content (%w)", s.dir, fs.ErrNotExist)
		for _, location := range like {
			err := s.intact(location, f.written())
			if err == nil {
				return s.cat.NewIO().Open(location)
			}
			failed = fmt.Errorf("the copy %s: %w", location, err)
		}
		return nil, failed
	}
}

// intact returns why a file does not hold what it should.
func (s *Store) intact(location string, want icecat.WrittenFile) error {
	is, err := contentOf(s.cat.NewIO(), location)
	if err != nil {
		return cause(err)
	}
	return want.Check(is.Size, is.Hash)
}

// contentOf reads a file.
func contentOf(from *icecat.FileIO, location string) (icecat.WrittenFile, error) {
	f, err := from.Open(location)
	if err != nil {
		return icecat.WrittenFile{}, err
	}
	hash := xxh3.New()
	n, err := io.Copy(hash, f)
	return icecat.WrittenFile{Path: location, Size: n, Hash: hash.Sum128()}, errors.Join(err, f.Close())
}

// replaceFile puts the content of a source in place of a file.
func (s *Store) replaceFile(ctx context.Context, f File, from Source) error {
	r, err := from(ctx, f)
	if err != nil {
		return err
	}
	return errors.Join(s.cat.NewIO().Place(f.written(), r), r.Close())
}
