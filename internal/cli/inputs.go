package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/go-partd/partd/internal/records"
)

// stdin is how standard input is named on the command line.
const stdin = "-"

// inputs are the files of a command, all checked.
type inputs struct {
	files   []records.Input
	columns []string // the header, nil for none
	size    int64    // of all, -1 if not known
}

// openInputs checks that each file is there, is plain text, and has the header
// that the others have. It reads each file's beginning only.
func openInputs(ctx context.Context, a *app, names []string, layout records.Layout, maxRecord int) (inputs, error) {
	var in inputs
	first := "" // the file that the header is from
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return in, err
		}
		if name == stdin {
			for _, earlier := range names[:i] {
				if earlier == stdin {
					return in, usagef("standard input is given twice")
				}
			}
		}
		file, columns, err := openInput(a, name, layout, maxRecord)
		if err != nil {
			return in, err
		}
		in.files = append(in.files, file)
		if in.size += file.Size; file.Size < 0 || in.size < 0 {
			in.size = -1
		}
		if columns == nil {
			continue
		}
		if first == "" {
			first, in.columns = name, columns
		} else if diff := records.DiffColumns(in.columns, columns); diff != "" {
			return in, fmt.Errorf("%s and %s have different headers: %s", first, name, diff)
		}
	}
	return in, nil
}

// openInput checks a file. One that can be read only once stays open.
func openInput(a *app, name string, layout records.Layout, maxRecord int) (records.Input, []string, error) {
	in := records.Input{Name: name, Size: -1}
	f := a.in
	if name != stdin {
		var err error
		if f, err = os.Open(name); err != nil {
			return in, nil, err
		}
	} else {
		in.Name = "standard input"
	}
	info, err := f.Stat()
	if err != nil {
		return in, nil, err
	}
	if info.IsDir() {
		_ = f.Close()
		return in, nil, fmt.Errorf("%s is a directory, not a file", name)
	}
	columns, head, err := records.Head(in.Name, f, layout, maxRecord)
	if err != nil {
		return in, nil, err
	}
	if name != stdin && info.Mode().IsRegular() {
		in.Size = info.Size()
		in.Open = func() (io.ReadCloser, error) { return os.Open(name) }
		return in, columns, f.Close()
	}
	in.Open = func() (io.ReadCloser, error) {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), f), f}, nil
	}
	return in, columns, nil
}
