package datafile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
)

// HasWidths reports whether a file annotates 32-bit integer columns with their width, as files from DuckDB and
// iceberg-go do. Files from Spark and pyiceberg do not.
func HasWidths(ctx context.Context, t *table.Table, task table.FileScanTask) (hasWidths bool, err error) {
	err = withFile(ctx, t, task, func(f *file) {
		columns := f.parsed.MetaData().Schema
		for i := range columns.NumColumns() {
			t, ok := columns.Column(i).LogicalType().(pqschema.IntLogicalType)
			hasWidths = hasWidths || ok && t.BitWidth() == 32 && t.IsSigned()
		}
	})
	return hasWidths, err
}

// foreignFiles is a file system that creates each file as a foreignFile.
type foreignFiles struct {
	iceio.WriteFileIO
	hasNaN  *atomic.Bool // whether any file contains NaN
	footers *sync.Map    // footers of complete files, by name: *metadata.FileMetaData
}

func (p foreignFiles) Create(name string) (iceio.FileWriter, error) {
	f, err := p.WriteFileIO.Create(name)
	return &foreignFile{FileWriter: f, files: p, name: name}, err
}

// foreignFile is a Parquet file that Iceberg's library writes. It holds back the last three writes (the footer, its
// length and the magic number) until Close. Close removes the width annotations from the footer, and the bounds of
// floats that may be wrong because of NaN.
type foreignFile struct {
	iceio.FileWriter
	files      foreignFiles
	name       string
	lastWrites [][]byte
}

func (f *foreignFile) Write(b []byte) (int, error) {
	f.lastWrites = append(f.lastWrites, bytes.Clone(b))
	if len(f.lastWrites) > 3 {
		if _, err := f.FileWriter.Write(f.lastWrites[0]); err != nil {
			return 0, err
		}
		f.lastWrites = f.lastWrites[1:]
	}
	return len(b), nil
}

func (f *foreignFile) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{f}, r)
}

func (f *foreignFile) Close() error {
	lastBytes, err := f.mendFooter(bytes.Join(f.lastWrites, nil))
	f.lastWrites = nil
	if err == nil && len(lastBytes) > 0 {
		_, err = f.FileWriter.Write(lastBytes)
	}
	return errors.Join(err, f.FileWriter.Close())
}

// mendFooter returns b, the last bytes of the file, with a corrected footer.
func (f *foreignFile) mendFooter(b []byte) ([]byte, error) {
	start := footerStart(b)
	if start < 0 {
		return b, nil // the library failed to write the file
	}
	parsed, err := metadata.NewFileMetaData(b[start:len(b)-footerEnd], nil)
	if err != nil {
		return b, err
	}
	f.files.footers.Store(f.name, parsed)
	hasNaN := f.files.hasNaN.Load()
	for i, group := range parsed.RowGroups {
		for leaf, c := range group.Columns {
			if t := parquet.Type(c.MetaData.Type); hasNaN && (t == parquet.Types.Float || t == parquet.Types.Double) {
				removeBounds(parsed, chunkID{i, leaf})
			}
		}
	}
	if !removeWidths(parsed) && !hasNaN {
		return b, nil
	}
	return replaceFooter(b, parsed)
}
