// Package zfile reads and writes compressed files: gzip, zstd, bzip2 and LZ4 frames.
// Readers detect the format by a file's content, writers by the extension of its name.
package zfile

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/go-partd/partd/compress"
)

// None is the format of files that are not compressed.
const None compress.Format = ""

// Extensions lists the common extensions of compressed files.
const Extensions = ".gz, .zst, .bz2, .lz4"

var extensions = map[string]compress.Format{
	".gz": compress.Gzip, ".gzip": compress.Gzip, ".zst": compress.Zstd, ".zstd": compress.Zstd,
	".bz2": compress.BZ2, ".bzip2": compress.BZ2, ".lz4": compress.LZ4,
}

// HeadSize is the maximum number of bytes that Detect examines.
const HeadSize = 10

// Detect returns the format of a file that begins with head. If head begins a skippable frame,
// which zstd and LZ4 have in common, Detect returns Zstd, and [NewReader] determines the actual
// format.
func Detect(head []byte) compress.Format {
	hasPrefix := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case hasPrefix("\x1f\x8b"):
		return compress.Gzip
	case hasPrefix("\x28\xb5\x2f\xfd"):
		return compress.Zstd
	case hasPrefix("\x04\x22\x4d\x18"):
		return compress.LZ4
	case len(head) >= HeadSize && hasPrefix("BZh") && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90"):
		// Text can also begin with BZh, so a block or the end of the file must follow.
		return compress.BZ2
	case isSkippable(head):
		return compress.Zstd
	}
	return None
}

func isSkippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"
}

// FormatOf returns the format for the extension of a file's name, or None.
func FormatOf(name string) compress.Format { return extensions[strings.ToLower(filepath.Ext(name))] }

// CheckName returns an error if a name has the extension of a format that NewWriter does not
// support.
func CheckName(name string) error {
	ext := strings.ToLower(filepath.Ext(name))
	switch ext {
	case ".xz", ".lzma", ".br", ".z", ".sz", ".7z", ".zip", ".rar", ".tar", ".parquet":
		return fmt.Errorf("%s: cannot write files ending in %s: use one of %s", name, ext, Extensions)
	}
	return nil
}

// TrimName returns a name without the extension of its compression format.
func TrimName(name string) string {
	if FormatOf(name) == None {
		return name
	}
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// NewWriter returns a writer that compresses to w at the format's default level. Its Close
// writes the remaining data and does not close w. threads limits the threads that compress
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
