package datafile

import (
	"fmt"
	"io/fs"

	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/tables/internal/schema"
)

// properties make the library read files page by page, so that unneeded pages are not read.
var properties = func() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(recycled)
	p.BufferedStreamEnabled = true
	return p
}()

// parse opens a file as Parquet. It caches the footer by the file's name, size and time. A file
// never changes, but a repair may replace it by one with another time.
func (s *Scan) parse(name string, in parquet.ReaderAtSeeker) (*pqfile.Reader, error) {
	with := pqfile.WithReadProps(properties)
	key := ""
	if file, ok := in.(fs.File); ok && s.Ends != nil {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		key = fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if end, ok := s.Ends.Get(key); ok {
			return pqfile.NewParquetReader(in, with, pqfile.WithMetadata(end))
		}
	}
	r, err := schema.OpenParquet(in, with)
	if err != nil {
		return nil, err
	}
	end := r.MetaData()
	// A stored Arrow schema would change the types, and could cause large allocations.
	end.FileMetaData.KeyValueMetadata = nil
	if key != "" {
		s.Ends.Put(key, end, 8*int64(end.Size())+1024)
	}
	return r, nil
}
