package zfile

import (
	"fmt"
	"io"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// NewWriter returns a writer that compresses, at the usual level of each kind.
// Close ends the data and does not close w. Threads is how many may work on
// zstd.
func NewWriter(kind Kind, w io.Writer, threads int) (io.WriteCloser, error) {
	switch kind {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.DefaultCompression)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(max(threads, 1)), zstd.WithLowerEncoderMem(true))
	case Bzip2:
		return bzip2.NewWriter(w, nil)
	case LZ4:
		z := lz4.NewWriter(w)
		if err := z.Apply(lz4.ChecksumOption(true), lz4.BlockSizeOption(lz4.Block1Mb)); err != nil {
			return nil, err
		}
		return z, nil
	}
	return nil, fmt.Errorf("no writer for compression %d", kind)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
