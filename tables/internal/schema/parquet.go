package schema

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
)

// OpenParquet opens an untrusted Parquet file, after checking its footer. Columns of logical types
// that arrow-go does not know have their physical type.
func OpenParquet(in parquet.ReaderAtSeeker, options ...file.ReadOption) (*file.Reader, error) {
	footer, size, err := arrowsafe.Footer(in)
	if err != nil {
		return nil, err
	}
	if footer != nil {
		about, err := metadata.NewFileMetaData(footer, nil)
		if err == nil {
			about.Schema, err = readable(about.Schema)
		}
		if err != nil {
			return nil, fmt.Errorf("parquet: could not read footer: %w", err)
		}
		about.SetSourceFileSize(size)
		options = append(options, file.WithMetadata(about))
	}
	return file.NewParquetReader(in, options...)
}

// CheckEncoding refuses a column chunk that arrow-go cannot decode (18.8; see TestArrowReadsFixedDeltas).
func CheckEncoding(chunk *metadata.ColumnChunkMetaData) error {
	if chunk.Type() != parquet.Types.FixedLenByteArray || !slices.Contains(chunk.Encodings(), parquet.Encodings.DeltaByteArray) {
		return nil
	}
	return fmt.Errorf("column %q: DELTA_BYTE_ARRAY is not supported for values of fixed size: write the file with another encoding, such as PLAIN", chunk.PathInSchema())
}

func init() {
	for _, name := range []compress.Compression{compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Brotli} {
		if c, err := compress.GetCodec(name); err == nil {
			compress.RegisterCodec(name, codec{c, c.(compress.StreamingCodec)})
		}
	}
}

// codec decompresses no bytes to no bytes. Some writers leave the values of a page empty that has only
// nulls, but mark them as compressed.
type codec struct {
	compress.Codec
	compress.StreamingCodec
}

func (c codec) DecodeWithError(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return dst[:0], nil
	}
	return compress.Decode(c.Codec, dst, src)
}
