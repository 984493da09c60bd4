package filejobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
	"github.com/go-partd/partd/internal/zfile"
)

// Stdin is how the standard input is named among files.
const Stdin = "-"

// Inputs are files to read, all checked.
type Inputs struct {
	Files   []records.Input
	Columns []string     // the header, nil for none
	Size    int64        // of all, as they lie on the disk, -1 if not known
	Read    atomic.Int64 // how much of that was read
	header  []byte       // as it is written
	head    []byte       // how the first file that is not empty begins
}

// OpenInputs checks that each file is there, can be read, and has the header
// that the others have. It reads each file's beginning only.
func OpenInputs(ctx context.Context, stdin *os.File, names []string, layout records.Layout, maxRecord int) (*Inputs, error) {
	in := &Inputs{}
	first := "" // the file that the header is from
	for i, name := range names {
		if err := canceled.Err(ctx); err != nil {
			return in, err
		}
		if name == Stdin && slices.Contains(names[:i], Stdin) {
			return in, optionErrorf("standard input is given twice")
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

// Columns returns the names of the columns of a file, which are in its first
// limit bytes. Of what is no regular file, as a pipe, it reads nothing.
func Columns(name string, layout records.Layout, limit int) ([]string, error) {
	// Opening a pipe would wait for who writes to it.
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

// OtherSep says which separator the fields may have, if the first line shows one
// field only.
func (in *Inputs) OtherSep(l records.Layout) string {
	line, _, _ := strings.Cut(string(in.head), "\n")
	own, flags := l.Sep, "--sep "
	switch l.Format {
	case records.CSV:
		own = cmp.Or(own, ",")
	case records.TSV:
		own, flags = "\t", "--format csv --sep "
	case records.Text:
		own = cmp.Or(own, " \t")
	default:
		return ""
	}
	if strings.ContainsAny(strings.TrimSpace(line), own) {
		return ""
	}
	for _, sep := range []string{";", "\t", "|", ","} {
		if strings.Contains(line, sep) {
			return fmt.Sprintf(" (are fields separated by %s%s?)", flags, textfmt.ShellQuote(strings.ReplaceAll(sep, "\t", `\t`)))
		}
	}
	return ""
}

// Note says that the records have one field, if another separator would give them
// more.
func (in *Inputs) Note(l records.Layout) []string {
	if hint := in.OtherSep(l); hint != "" && in.Columns != nil {
		return []string{"the records have one field" + hint}
	}
	return nil
}

// SkipHint adds to an error what would have helped: --skip-bad, or another
// separator.
func (in *Inputs) SkipHint(err error, l records.Layout) error {
	if errors.As(err, new(*records.BadError)) {
		return fmt.Errorf("%w%s (--skip-bad skips and counts such records)", err, in.OtherSep(l))
	}
	return err
}

// openOrEnd does what open does, but does not wait for it when ctx ends: a pipe may
// have no first byte yet, or nobody who writes to it. Then in is not to be used.
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

// open checks a file, and returns its beginning. One that can be read only once
// stays open.
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
		return nil, fmt.Errorf("%s is a directory, not a file", name)
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
		start, err := records.Head(file.Name, r, layout, maxRecord)
		in.Files = append(in.Files, file)
		return start, errors.Join(err, r.Close(), f.Close())
	}
	in.Size = -1
	r, err := decompress(file.Name, &rawFile{file: f, all: &in.Read}, maxRecord)
	if err != nil {
		return nil, err
	}
	start, err := records.Head(file.Name, r, layout, maxRecord)
	if err != nil {
		return nil, err
	}
	file.Open = func() (io.ReadCloser, error) {
		return content{Reader: io.MultiReader(bytes.NewReader(start.Read), r), close: f.Close}, nil
	}
	in.Files = append(in.Files, file)
	return start, nil
}

// reopen opens a file to read it whole, and looks at the end whether all of its
// bytes were read.
func (in *Inputs) reopen(name string, size int64, maxRecord int) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	raw := &rawFile{file: f, all: &in.Read}
	r, err := decompress(name, raw, maxRecord)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return content{Reader: r, close: func() error {
		err := errors.Join(r.Close(), f.Close())
		if err == nil && raw.ended && raw.n != size {
			return &records.Error{File: name, Err: fmt.Errorf(
				"the file changed while it was read: it had %d bytes, and %d were read", size, raw.n)}
		}
		return err
	}}, nil
}

// rawFile counts what is read of a file as it lies on the disk.
type rawFile struct {
	file  *os.File
	all   *atomic.Int64 // bytes of all files
	n     int64
	ended bool
}

func (r *rawFile) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.n += int64(n)
	r.all.Add(int64(n))
	r.ended = r.ended || err == io.EOF
	return n, err
}

// content is what a file holds, compressed or not.
type content struct {
	io.Reader
	close  func() error
	packed bool
}

func (c content) Close() error { return c.close() }

// decompress returns what a file holds. How it is compressed is told by its
// content; that is an error where the name says something else. A window of zstd may take
// an eighth of the memory, half of a record.
func decompress(name string, f io.Reader, maxRecord int) (content, error) {
	head := make([]byte, zfile.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return content{}, err
	}
	head = head[:n]
	all := io.MultiReader(bytes.NewReader(head), f)
	kind, named := zfile.Detect(head), zfile.ByName(name)
	if named != zfile.None && kind != named {
		return content{}, &records.Error{File: name, Err: fmt.Errorf("its name is that of a %s file, but its content is not", named)}
	}
	if kind == zfile.None {
		// After the head, which is small, reads go to the file itself.
		return content{Reader: all, close: func() error { return nil }}, nil
	}
	r, err := zfile.NewReader(name, kind, all, int64(maxRecord/2))
	if err != nil {
		return content{}, err
	}
	return content{Reader: r, close: r.Close, packed: true}, nil
}
