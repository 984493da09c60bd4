package zfile

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/go-partd/partd/compress"
)

// MinWindow is the window of zstd that is read however little memory there is, in bytes:
// what RFC 8878 asks of every decoder.
const MinWindow = 8 << 20

// Error says that a compressed file is damaged or ends too early.
type Error struct {
	Name   string // the file
	Format compress.Format
	Offset int64 // how much of the file was read, in bytes: the damage is before
	Err    error
}

func (e *Error) Error() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("%s: the %s data end too early, at byte %d of the file", e.Name, e.Format, e.Offset)
	}
	return fmt.Sprintf("%s: damaged %s data before byte %d of the file: %v", e.Name, e.Format, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reader reads what a compressed file holds. Files that were compressed in
// pieces and put together read as one.
type Reader struct {
	name   string
	format compress.Format
	window int64 // of zstd, the largest
	src    *bufio.Reader
	count  *counter // of what src has read
	from   io.Reader
	close  func()
	err    error
}

// NewReader returns a reader of a file of a format, not None. Name is for
// messages. Window is how far back frames of zstd may reach, which takes as much memory, in
// bytes; it is not below [MinWindow].
func NewReader(name string, format compress.Format, file io.Reader, window int64) (*Reader, error) {
	count := &counter{r: file}
	src := bufio.NewReaderSize(count, 256<<10)
	r := &Reader{name: name, format: format, window: max(window, MinWindow), src: src, count: count, close: func() {}}
	if _, err := src.Peek(1); err != nil {
		return nil, r.failed(err) // an empty file is no compressed file
	}
	var err error
	switch format {
	case compress.Gzip:
		r.from, err = gzip.NewReader(src)
	case compress.Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(r.window)))
		if err == nil {
			r.from, r.close = d, d.Close
		}
	case compress.BZ2:
		r.from = bzip2.NewReader(src)
	case compress.LZ4:
		r.from = lz4.NewReader(src)
	default:
		return nil, fmt.Errorf("%s: no reader for %s data", name, format)
	}
	if err != nil {
		return nil, r.failed(err)
	}
	return r, nil
}

// Read reads what was compressed.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.from.Read(p)
	if err == io.EOF {
		err = r.end()
	} else if err != nil {
		err = r.failed(err)
	}
	r.err = err
	return n, err
}

// end looks whether the file ends with its compressed data.
func (r *Reader) end() error {
	rest, err := r.src.Peek(4)
	switch {
	case len(rest) == 0 && err == io.EOF:
		return io.EOF
	case len(rest) == 0:
		return r.failed(err)
	case r.format == compress.LZ4 && Detect(rest) == compress.LZ4:
		// Frames one after the other.
		r.from = lz4.NewReader(r.src)
		return nil
	}
	return r.failed(errors.New("something else follows them"))
}

func (r *Reader) failed(err error) error {
	if r.count.err != nil {
		return r.count.err // reading failed, not the data
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return fmt.Errorf("%s: its zstd window (--long, --ultra) is larger than the %d MiB available for it, an eighth of --memory: "+
			"1GiB reads the 128 MiB of zstd --long; or decompress the file first", r.name, r.window>>20)
	}
	return &Error{Name: r.name, Format: r.format, Offset: r.count.n - int64(r.src.Buffered()), Err: err}
}

// Close gives back memory. It does not close the file.
func (r *Reader) Close() error {
	r.close()
	return nil
}

// counter counts what is read.
type counter struct {
	r   io.Reader
	n   int64
	err error // of a read that failed
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
