package zfile

import (
	"bufio"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/go-partd/partd/compress"
)

// MinWindow is the zstd window, in bytes, that a Reader always accepts. RFC 8878 recommends that
// every decoder support it.
const MinWindow = 8 << 20

// Error is the error for a compressed file that is damaged or truncated.
type Error struct {
	Name   string // name of the file
	Format compress.Format
	Offset int64 // number of bytes of the file that were read; the damage is before this offset
	Err    error
}

func (e *Error) Error() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("%s: the %s data is cut off at byte %d of the file", e.Name, e.Format, e.Offset)
	}
	return fmt.Sprintf("%s: damaged %s data before byte %d of the file: %v", e.Name, e.Format, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reader decompresses a file. Concatenated compressed files read as one.
type Reader struct {
	name    string
	format  compress.Format
	window  int64 // maximum zstd window
	src     *bufio.Reader
	count   *counter  // counts the bytes that src has read
	decoder io.Reader // decompresses src
	close   func()    // frees the memory of decoder
	err     error
}

// NewReader returns a reader for a compressed file. format, from [Detect], must not be None. name
// is the file's name. It appears in errors and determines the format of a file that has only skippable
// frames. window is the maximum window of zstd frames in bytes, at least [MinWindow]; a frame needs
// this much memory.
func NewReader(name string, format compress.Format, file io.Reader, window int64) (*Reader, error) {
	count := &counter{r: file}
	src := bufio.NewReaderSize(count, 256<<10)
	r := &Reader{name: name, format: format, window: max(window, MinWindow), src: src, count: count, close: func() {}}
	if _, err := src.Peek(1); err != nil {
		return nil, r.explain(err) // an empty file (io.EOF) is an error too, because it is not a valid compressed file
	}
	head, err := r.skipFrames()
	if err != nil {
		return nil, r.explain(err)
	}
	if format == compress.Zstd && (Detect(head) == compress.LZ4 || len(head) == 0 && FormatOf(name) == compress.LZ4) {
		r.format = compress.LZ4
	}
	switch r.format {
	case compress.Gzip:
		r.decoder, err = gzip.NewReader(src)
	case compress.Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(r.window)))
		if err == nil {
			r.decoder, r.close = d, d.Close
		}
	case compress.BZ2:
		r.decoder = bzip2.NewReader(src)
	case compress.LZ4:
		r.decoder = lz4.NewReader(src)
	default:
		return nil, fmt.Errorf("%s: no reader for %s data", name, format)
	}
	if err != nil {
		return nil, r.explain(err)
	}
	return r, nil
}

// Format returns the format of the file. It can differ from NewReader's argument.
func (r *Reader) Format() compress.Format { return r.format }

// skipFrames skips skippable frames, which zstd and LZ4 files can contain anywhere. It returns the
// next bytes without consuming them, or none at the end of the file.
func (r *Reader) skipFrames() (head []byte, err error) {
	for {
		head, err = r.src.Peek(8)
		if !isSkippable(head) || r.format != compress.Zstd && r.format != compress.LZ4 {
			if err == io.EOF {
				err = nil
			}
			return head, err
		}
		if err != nil {
			return nil, err
		}
		_, err = io.CopyN(io.Discard, r.src, 8+int64(binary.LittleEndian.Uint32(head[4:])))
		if err != nil {
			return nil, err
		}
	}
}

// Read reads decompressed data.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.decoder.Read(p)
	if err == io.EOF {
		err = r.end()
	} else if err != nil {
		err = r.explain(err)
	}
	r.err = err
	return n, err
}

// end handles the end of r.decoder. Only skippable frames and another LZ4 frame may follow. It
// returns nil if r.decoder has more data, and io.EOF at the end of the file.
func (r *Reader) end() error {
	rest, err := r.skipFrames()
	switch {
	case err != nil:
		return r.explain(err)
	case len(rest) == 0:
		return io.EOF
	case r.format == compress.LZ4 && Detect(rest) == compress.LZ4:
		r.decoder = lz4.NewReader(r.src)
		return nil
	}
	return r.explain(errors.New("other data follows"))
}

// explain returns the error for a failure to decompress: the file's error if reading it failed, and
// an *Error otherwise.
func (r *Reader) explain(err error) error {
	if r.count.err != nil {
		return r.count.err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fmt.Errorf("%s: its zstd window (--long, --ultra) exceeds the available %d MiB, an eighth of --memory: "+
			"use --memory 1GiB to read the 128 MiB of zstd --long, or decompress the file first", r.name, r.window>>20)
	}
	return &Error{Name: r.name, Format: r.format, Offset: r.count.n - int64(r.src.Buffered()), Err: err}
}

// Close frees memory. It does not close the file.
func (r *Reader) Close() error {
	r.close()
	return nil
}

type counter struct {
	r   io.Reader
	n   int64 // bytes read
	err error // error from r, except io.EOF
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
