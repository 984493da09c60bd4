package datafile

import (
	"fmt"
	"io/fs"

	"github.com/apache/arrow-go/v18/parquet"
	pqfile "github.com/apache/arrow-go/v18/parquet/file"

	"github.com/go-partd/partd/tables/internal/schema"
)

// properties make the library read files page by page, so that unneeded pages can be skipped.
var properties = func() *parquet.ReaderProperties {
	p := parquet.NewReaderProperties(recycled)
	p.BufferedStreamEnabled = true
	return p
}()

// parse opens a Parquet file. It caches the footer by the file's name, size and modification time, because a repair
// can replace a file.
func (s *Scan) parse(name string, in parquet.ReaderAtSeeker) (*pqfile.Reader, error) {
	withProperties := pqfile.WithReadProps(properties)
	key := ""
	if file, ok := in.(fs.File); ok && s.Footers != nil {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		key = fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())
		if footer, ok := s.Footers.Get(key); ok {
			return pqfile.NewParquetReader(in, withProperties, pqfile.WithMetadata(footer))
		}
	}
	r, err := schema.OpenParquet(in, withProperties)
	if err != nil {
		return nil, err
	}
	footer := r.MetaData()
	// Discard a stored Arrow schema: it would change the column types, and could cause large allocations.
	footer.FileMetaData.KeyValueMetadata = nil
	if key != "" {
		s.Footers.Put(key, footer, 8*int64(footer.Size())+1024)
	}
	return r, nil
}
