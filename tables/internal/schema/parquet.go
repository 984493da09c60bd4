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

// OpenParquet opens an untrusted Parquet file after checking its footer. It reads columns with unsupported logical types in their
// physical types.
func OpenParquet(in parquet.ReaderAtSeeker, options ...file.ReadOption) (*file.Reader, error) {
	footer, size, err := arrowsafe.Footer(in)
	if err != nil {
		return nil, err
	}
	if footer != nil {
		fileMetadata, err := metadata.NewFileMetaData(footer, nil)
		if err == nil {
			fileMetadata.Schema, err = withReadableTypes(fileMetadata.Schema)
		}
		if err != nil {
			return nil, fmt.Errorf("parquet: could not read footer: %w", err)
		}
		fileMetadata.SetSourceFileSize(size)
		options = append(options, file.WithMetadata(fileMetadata))
	}
	return file.NewParquetReader(in, options...)
}

// CheckEncoding returns an error if arrow-go cannot decode a column chunk (18.8; see TestArrowReadsFixedDeltas).
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

// codec decompresses an empty input to an empty output. Some writers mark a page of nulls as compressed but leave its values
// empty.
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
