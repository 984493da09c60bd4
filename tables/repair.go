package tables

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// File is a file that a store's catalog knows by its content.
type File struct {
	Bucket, Table string
	Location      string // as Iceberg's metadata has it
	Size          int64
	XXH3          [16]byte // of the content: its xxh3-128, most significant byte first
}

// Source returns the content of a file from elsewhere, to repair one. Who calls it
// compares what it reads, and closes it. Where there is no such file, the error wraps
// fs.ErrNotExist.
type Source func(ctx context.Context, f File) (io.ReadCloser, error)

// Source returns files of the store by their content, wherever they are in it.
func (s *Store) Source() Source {
	return func(ctx context.Context, f File) (io.ReadCloser, error) {
		hash := xxh3.Uint128{Hi: binary.BigEndian.Uint64(f.XXH3[:8]), Lo: binary.BigEndian.Uint64(f.XXH3[8:])}
		want := icecat.WrittenFile{Path: f.Location, Size: f.Size, Hash: hash}
		like, err := s.cat.FilesLike(ctx, want)
		if err != nil {
			return nil, err
		}
		failed := fmt.Errorf("the store in %s has no file of this content (%w)", s.dir, fs.ErrNotExist)
		for _, location := range like {
			err := content.Check(s.cat, location, want)
			if err == nil {
				return s.cat.NewIO().Open(location)
			}
			failed = fmt.Errorf("the copy %s: %w", location, err)
		}
		return nil, failed
	}
}
