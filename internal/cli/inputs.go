package cli

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

	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/zfile"
)

// stdin is how standard input is named on the command line.
const stdin = "-"

// inputs are the files of a command, all checked.
type inputs struct {
	files   []records.Input
	columns []string     // the header, nil for none
	header  []byte       // as it is written
	head    []byte       // how the first file that is not empty begins
	size    int64        // of all, as they lie on the disk, -1 if not known
	read    atomic.Int64 // how much of that was read
}

// openInputs checks that each file is there, can be read, and has the header
// that the others have. It reads each file's beginning only.
func openInputs(ctx context.Context, a *app, names []string, layout records.Layout, maxRecord int) (*inputs, error) {
	in := &inputs{}
	first := "" // the file that the header is from
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return in, err
		}
		if name == stdin && slices.Contains(names[:i], stdin) {
			return in, usagef("standard input is given twice")
		}
		start, err := in.openOrEnd(ctx, a, name, layout, maxRecord)
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
			first, in.columns, in.header = name, start.Columns, start.Header
		} else if diff := records.DiffColumns(in.columns, start.Columns); diff != "" {
			return in, fmt.Errorf("%s and %s have different headers: %s", first, name, diff)
		}
	}
	return in, nil
}

// otherSep says which separator the fields may have, if the first line shows one
// field only.
func (in *inputs) otherSep(l records.Layout) string {
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
			return fmt.Sprintf(" (are fields separated by %s%s?)", flags, shellQuote(strings.ReplaceAll(sep, "\t", `\t`)))
		}
	}
	return ""
}

// openOrEnd does what open does, but does not wait for it when ctx ends: a pipe may
// have no first byte yet, or nobody who writes to it. Then in is not to be used.
func (in *inputs) openOrEnd(ctx context.Context, a *app, name string, layout records.Layout, maxRecord int) (*records.Start, error) {
	var start *records.Start
	done := make(chan error, 1)
	go func() {
		var err error
		start, err = in.open(a, name, layout, maxRecord)
		done <- err
	}()
	select {
	case err := <-done:
		return start, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// open checks a file, and returns its beginning. One that can be read only once
// stays open.
func (in *inputs) open(a *app, name string, layout records.Layout, maxRecord int) (*records.Start, error) {
	file := records.Input{Name: name, Size: -1}
	f := a.in
	if name != stdin {
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
	if name != stdin && info.Mode().IsRegular() {
		if in.size >= 0 {
			in.size += info.Size()
		}
		r, err := decompress(file.Name, name, f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if !r.packed {
			file.Size = info.Size()
		}
		file.Open = func() (io.ReadCloser, error) { return in.reopen(name, info.Size()) }
		start, err := records.Head(file.Name, r, layout, maxRecord)
		in.files = append(in.files, file)
		return start, errors.Join(err, r.Close(), f.Close())
	}
	in.size = -1
	r, err := decompress(file.Name, name, counted{f, &in.read})
	if err != nil {
		return nil, err
	}
	start, err := records.Head(file.Name, r, layout, maxRecord)
	if err != nil {
		return nil, err
	}
	file.Open = func() (io.ReadCloser, error) {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(start.Read), r), f}, nil
	}
	in.files = append(in.files, file)
	return start, nil
}

// reopen opens a file to read it whole, and looks at the end whether all of its
// bytes were read.
func (in *inputs) reopen(name string, size int64) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	whole := &wholeFile{file: f, name: name, size: size}
	whole.raw = &counted{f, &in.read}
	whole.content, err = decompress(name, name, whole)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{whole.content, whole}, nil
}

// wholeFile reads a file, and counts its bytes.
type wholeFile struct {
	file    *os.File
	raw     *counted
	content content
	name    string
	size, n int64
	ended   bool
}

func (w *wholeFile) Read(p []byte) (int, error) {
	n, err := w.raw.Read(p)
	w.n += int64(n)
	w.ended = w.ended || err == io.EOF
	return n, err
}

// Close tells whether the file was as long as it was before.
func (w *wholeFile) Close() error {
	err := errors.Join(w.content.Close(), w.file.Close())
	if err == nil && w.ended && w.n != w.size {
		return &records.Error{File: w.name, Err: fmt.Errorf(
			"the file changed while it was read: it had %d bytes, and %d were read", w.size, w.n)}
	}
	return err
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
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
// content; that is an error where the name says something else. Shown is the
// name for messages.
func decompress(shown, name string, f io.Reader) (content, error) {
	head := make([]byte, zfile.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return content{}, err
	}
	head = head[:n]
	all := io.MultiReader(bytes.NewReader(head), f)
	kind, named := zfile.Detect(head), zfile.ByName(name)
	if named != zfile.None && kind != named {
		return content{}, &records.Error{File: shown, Err: fmt.Errorf("it is named as a %s file, but is none", named)}
	}
	if kind == zfile.None {
		// After the head, which is small, reads go to the file itself.
		return content{Reader: all, close: func() error { return nil }}, nil
	}
	r, err := zfile.NewReader(shown, kind, all)
	if err != nil {
		return content{}, err
	}
	return content{Reader: r, close: r.Close, packed: true}, nil
}
