package filejobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
	"github.com/go-partd/partd/internal/zfile"
)

// Stdin is the name of the standard input in lists of files.
const Stdin = "-"

// Inputs are the opened and checked input files.
type Inputs struct {
	Files   []records.Input
	Columns []string     // the header, nil if the input has no header
	Size    int64        // bytes of all files as stored, -1 if unknown
	Read    atomic.Int64 // bytes of them that were read
	header  []byte       // the header as written in the file
	head    []byte       // the beginning of the first file that is not empty
}

// OpenInputs checks that each file exists, is readable, and has the same header as the others.
// It reads only the beginning of each file.
func OpenInputs(ctx context.Context, stdin *os.File, names []string, layout records.Layout, maxRecord int) (*Inputs, error) {
	in := &Inputs{}
	first := "" // the file that has the header
	for i, name := range names {
		if err := canceled.Err(ctx); err != nil {
			return in, err
		}
		if name == Stdin && slices.Contains(names[:i], Stdin) {
			return in, optionErrorf("standard input (-) is given twice")
		}
		start, err := in.openOrEnd(ctx, stdin, name, layout, maxRecord)
		if err != nil {
			return in, err
		}
		if len(in.head) == 0 {
			in.head = start.Read
		}
		if start.Columns == nil {
			continue
		}
		if first == "" {
			first, in.Columns, in.header = name, start.Columns, start.Header
		} else if diff := records.DiffColumns(in.Columns, start.Columns); diff != "" {
			return in, fmt.Errorf("%s and %s have different headers: %s", first, name, diff)
		}
	}
	return in, nil
}

// Columns returns the column names of a file, which must be in its first limit bytes. It does
// not read pipes and other special files.
func Columns(name string, layout records.Layout, limit int) ([]string, error) {
	// Opening a pipe would wait for a writer.
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	in := &Inputs{}
	start, err := in.open(nil, name, layout, limit)
	if err != nil {
		return nil, err
	}
	return start.Columns, nil
}

// OtherSep returns a hint about the likely separator, if the first line has a single field.
func (in *Inputs) OtherSep(l records.Layout) string {
	line, _, _ := strings.Cut(string(in.head), "\n")
	current, flags := l.Sep, "--sep "
	switch l.Format {
	case records.CSV:
		current = cmp.Or(current, ",")
	case records.TSV:
		current, flags = "\t", "--format csv --sep "
	case records.Text:
		current = cmp.Or(current, " \t")
	default:
		return ""
	}
	if strings.ContainsAny(strings.TrimSpace(line), current) {
		return ""
	}
	for _, sep := range []string{";", "\t", "|", ","} {
		if strings.Contains(line, sep) {
			return fmt.Sprintf(" (is the separator another one? add %s%s)", flags, textfmt.ShellQuote(strings.ReplaceAll(sep, "\t", `\t`)))
		}
	}
	return ""
}

// Note returns a note if the records have one field, but would have more with another
// separator.
func (in *Inputs) Note(l records.Layout) []string {
	if hint := in.OtherSep(l); hint != "" && in.Columns != nil {
		return []string{"the records have a single field" + hint}
	}
	return nil
}

// SkipHint adds to an error a hint about --skip-bad, or about another separator.
func (in *Inputs) SkipHint(err error, l records.Layout) error {
	if errors.As(err, new(*records.BadError)) {
		return fmt.Errorf("%w%s (add --skip-bad to skip and count such records)", err, in.OtherSep(l))
	}
	return err
}

// openOrEnd is like open, but returns when ctx ends, even if open waits for a pipe. Then the
// caller must not use in any more.
func (in *Inputs) openOrEnd(ctx context.Context, stdin *os.File, name string, layout records.Layout, maxRecord int) (*records.Start, error) {
	var start *records.Start
	done := make(chan error, 1)
	go func() {
		var err error
		start, err = in.open(stdin, name, layout, maxRecord)
		done <- err
	}()
	select {
	case err := <-done:
		return start, err
	case <-ctx.Done():
		return nil, canceled.Err(ctx)
	}
}

// open checks a file, and returns its beginning. Files that can be read only once remain open.
func (in *Inputs) open(stdin *os.File, name string, layout records.Layout, maxRecord int) (*records.Start, error) {
	file := records.Input{Name: name, Size: -1}
	f := stdin
	if name != Stdin {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
	} else {
		file.Name = "standard input"
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		_ = f.Close()
		return nil, fmt.Errorf("%s is a directory: name its files, as in %s", name, filepath.Join(name, "*"))
	}
	if name != Stdin && info.Mode().IsRegular() {
		if in.Size >= 0 {
			in.Size += info.Size()
		}
		r, err := decompress(file.Name, f, maxRecord)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if !r.packed {
			file.Size = info.Size()
		}
		file.Open = func() (io.ReadCloser, error) { return in.reopen(name, info.Size(), maxRecord) }
		start, err := records.ReadStart(file.Name, r, layout, maxRecord)
		in.Files = append(in.Files, file)
		return start, errors.Join(err, r.Close(), f.Close())
	}
	in.Size = -1
	r, err := decompress(file.Name, &rawFile{file: f, total: &in.Read}, maxRecord)
	if err != nil {
		return nil, err
	}
	start, err := records.ReadStart(file.Name, r, layout, maxRecord)
	if err != nil {
		return nil, err
	}
	file.Open = func() (io.ReadCloser, error) {
		return content{Reader: io.MultiReader(bytes.NewReader(start.Read), r), close: f.Close}, nil
	}
	in.Files = append(in.Files, file)
	return start, nil
}

// reopen opens a file to read all of it. Closing it checks that all of its bytes were read.
func (in *Inputs) reopen(name string, size int64, maxRecord int) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	raw := &rawFile{file: f, total: &in.Read}
	r, err := decompress(name, raw, maxRecord)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return content{Reader: r, close: func() error {
		err := errors.Join(r.Close(), f.Close())
		if err == nil && raw.atEOF && raw.n != size {
			return &records.Error{File: name, Err: fmt.Errorf(
				"the file changed while it was read: it had %d bytes, but %d were read", size, raw.n)}
		}
		return err
	}}, nil
}

// rawFile counts the bytes read from a file, before decompression.
type rawFile struct {
	file  *os.File
	total *atomic.Int64 // bytes read from all files
	n     int64
	atEOF bool
}

func (r *rawFile) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.n += int64(n)
	r.total.Add(int64(n))
	r.atEOF = r.atEOF || err == io.EOF
	return n, err
}

// content is the decompressed content of a file.
type content struct {
	io.Reader
	close  func() error
	packed bool
}

func (c content) Close() error { return c.close() }

// decompress returns the content of a file. It detects compression by content, and returns an
// error if the file's name says otherwise. A zstd window may use an eighth of the memory,
// which is half of maxRecord.
func decompress(name string, f io.Reader, maxRecord int) (content, error) {
	head := make([]byte, zfile.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return content{}, err
	}
	head = head[:n]
	whole := io.MultiReader(bytes.NewReader(head), f)
	kind, named := zfile.Detect(head), zfile.FormatOf(name)
	// After the small head, reads go directly to a file that is not compressed.
	c := content{Reader: whole, close: func() error { return nil }}
	if kind != zfile.None {
		r, err := zfile.NewReader(name, kind, whole, int64(maxRecord/2))
		if err != nil {
			return content{}, err
		}
		kind, c = r.Format(), content{Reader: r, close: r.Close, packed: true}
	}
	if named != zfile.None && kind != named {
		return content{}, errors.Join(&records.Error{File: name, Err: fmt.Errorf("the name is that of a %s file, but the content is not", named)}, c.Close())
	}
	return c, nil
}
