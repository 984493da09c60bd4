package formats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// fileTypes contains the types that ReadEach gives to the columns of text files.
type fileTypes struct {
	known  *arrow.Schema  // the columns of Parquet or Arrow files, or of the first file with rows; nil if unknown
	text   *column        // a column whose nested columns are the files' columns; nil unless all files are text
	names  [][]string     // names of each file's columns if all files are text; nil for JSON lines without an object
	copies map[int]*Input // copies of pipes, and the standard input, which can be opened only once; by file index
}

// inferTypes infers the types of text files. If one of the files is Parquet or Arrow, text gets that file's types
// instead.
func inferTypes(ctx context.Context, files []string, open func(file string) (*Input, error)) (_ *fileTypes, err error) {
	t := &fileTypes{text: newColumn(""), copies: map[int]*Input{}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	for i := range files {
		in, err := t.openTwice(i, files[i], open)
		if err != nil {
			return nil, err
		}
		if in.Format.Records == 0 {
			t.text = nil
			if i > 0 { // if i is 0, ReadEach opens this file next and sets known to its columns
				err = t.addSchema(ctx, in)
			}
		} else {
			err = t.addText(ctx, in)
		}
		if t.copies[i] == nil {
			_ = in.File.Close() // the file was only read
		}
		if err != nil || t.text == nil {
			return t, err
		}
	}
	if len(t.text.fields) == 0 {
		return nil, fmt.Errorf("%s: %w", files[0], errNoColumns)
	}
	return t, nil
}

// openTwice opens a file that openRows will open again. It copies a pipe and keeps the standard input open.
func (t *fileTypes) openTwice(i int, file string, open func(file string) (*Input, error)) (*Input, error) {
	in, err := open(file)
	if err != nil {
		return nil, err
	}
	f, _, err := in.seekable()
	if err != nil {
		_ = in.File.Close() // the file was only read
		return nil, err
	}
	if f != in.File {
		_ = in.File.Close()        // the file was only read
		in.File, in.Count = f, nil // copying has counted the bytes
	} else if file != "-" {
		return in, nil
	}
	t.copies[i] = in
	return in, nil
}

func (t *fileTypes) addSchema(ctx context.Context, in *Input) error {
	r, err := in.Read(ctx)
	if err == nil {
		t.known = r.Schema()
		r.Release()
	}
	return err
}

func (t *fileTypes) addText(ctx context.Context, in *Input) error {
	root, err := in.inferText(ctx, in.File)
	if errors.Is(err, errNoColumns) {
		t.names = append(t.names, nil)
		return nil
	}
	if err == nil {
		_, err = t.text.merge(root)
	}
	if err != nil {
		return err
	}
	if _, err := schemaOf(t.text.fields, nil); err != nil {
		return fmt.Errorf("%s, after the files before it: %w", in.Name, err)
	}
	var names []string
	for _, c := range root.fields {
		names = append(names, c.name)
	}
	if n := len(t.names); n > 0 && slices.Equal(names, t.names[n-1]) {
		names = t.names[n-1] // share the memory
	}
	t.names = append(t.names, names)
	return nil
}

// isEmpty reports whether a file has neither rows nor columns.
func (t *fileTypes) isEmpty(i int) bool { return t.text != nil && t.names[i] == nil }

// openRows opens a file. It returns a reader of the file's rows and a function that closes both.
func (t *fileTypes) openRows(ctx context.Context, i int, files []string, open func(file string) (*Input, error)) (array.RecordReader, func(), error) {
	in, err := t.copies[i], error(nil)
	if in != nil {
		delete(t.copies, i)
		_, err = in.File.Seek(0, io.SeekStart)
	} else {
		in, err = open(files[i])
	}
	if err != nil {
		return nil, nil, err
	}
	if t.known != nil {
		in.Known = t.known
	}
	if t.text != nil {
		var columns []*column
		for k, name := range t.names[i] {
			c, _ := t.text.field([]byte(name), k)
			columns = append(columns, c)
		}
		in.columns, err = schemaOf(columns, nil)
		if err != nil {
			return nil, nil, err
		}
	}
	r, err := in.Read(ctx)
	if err != nil {
		_ = in.File.Close() // the file was only read
		return nil, nil, err
	}
	return r, func() {
		r.Release()
		_ = in.File.Close() // the file was only read
	}, nil
}

// close closes the copies that were not read.
func (t *fileTypes) close() {
	for _, in := range t.copies {
		_ = in.File.Close() // the file was only read
	}
}
