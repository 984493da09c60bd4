package zfile

import (
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/go-partd/partd/compress"
)

// NewWriter returns a writer that compresses, at the usual level of each format.
// Close ends the data and does not close w. Threads is how many may work on
// zstd.
func NewWriter(format compress.Format, w io.Writer, threads int) (io.WriteCloser, error) {
	switch format {
	case None:
		return nopCloser{w}, nil
	case compress.Gzip:
		return gzip.NewWriterLevel(w, gzip.DefaultCompression)
	case compress.Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(max(threads, 1)), zstd.WithLowerEncoderMem(true))
	case compress.BZ2:
		return bzip2.NewWriter(w, nil)
	case compress.LZ4:
		z := lz4.NewWriter(w)
		if err := z.Apply(lz4.ChecksumOption(true), lz4.BlockSizeOption(lz4.Block1Mb)); err != nil {
			return nil, err
		}
		return z, nil
	}
	return nil, fmt.Errorf("no writer for compression %q", format)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
