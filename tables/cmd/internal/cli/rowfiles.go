package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// rowOutput is the destination of the rows that a command writes.
type rowOutput struct {
	a            *app
	formatFlag   string // name of the flag for the format
	format       string
	file         string          // "" means the standard output; chooseFormat replaces "-" with ""
	force        bool            // replace an existing file
	null         string          // text that stands for null in CSV
	ignoresNull  bool            // whether other formats ignore null, instead of rejecting it
	chosenFormat *formats.Format // set by chooseFormat
}

// outputFlags adds the flags for the rows that a command writes. formatFlag is the name of the flag for their format.
func outputFlags(a *app, cmd *cobra.Command, formatFlag string) *rowOutput {
	o, fs := &rowOutput{a: a, formatFlag: formatFlag}, cmd.Flags()
	fs.StringVar(&o.format, formatFlag, "", "write the rows in this `FORMAT`: "+a.formats.Writable().Choice())
	fs.StringVarP(&o.file, "output", "o", "", "write to this `FILE` instead of standard output (-)")
	fs.BoolVar(&o.force, "force", false, "replace an existing FILE")
	cliutil.Complete(cmd, formatFlag, a.formats.Writable().Names()...)
	return o
}

// chooseFormat sets chosenFormat from the flags. Without flags, the format is a table if the output is a terminal, and
// CSV otherwise.
func (o *rowOutput) chooseFormat() (err error) {
	if o.file == "-" {
		o.file = ""
	}
	writable := o.a.formats.Writable()
	switch {
	case o.format != "":
		o.chosenFormat, err = findFormat(o.formatFlag, o.format, writable)
	case o.file != "":
		o.chosenFormat, err = writable.ForOutput(o.file)
		if err != nil {
			err = cliutil.Usagef("%w: set --%s to %s", err, o.formatFlag, writable.Choice())
		}
	case progress.IsTerminal(o.a.out):
		o.chosenFormat = formats.Table()
	default:
		o.chosenFormat = formats.CSV()
	}
	if err != nil {
		return err
	}
	if err := o.chosenFormat.CheckOption("null", o.null); err != nil && !o.ignoresNull {
		return cliutil.Usagef("--%w", err)
	}
	return nil
}

// scan writes the rows of a table that options selects. columns is a comma-separated list of names; "" means all.
func (o *rowOutput) scan(ctx context.Context, p location, name string, at tables.At, columns string, options *tables.ScanOptions) error {
	names, err := columnNames("columns", columns)
	err = errors.Join(err, o.chooseFormat())
	if err != nil {
		return err
	}
	options.Columns, options.Dictionaries = names, o.chosenFormat.IsArrow
	return p.withBackend(ctx, false, func(s backend) error {
		r, err := s.Scan(ctx, *p.bucket, name, at, options)
		return o.write(ctx, r, err)
	})
}

// write writes the rows of r and releases r. r and err are the results of opening a reader; if err is not nil, write
// returns it.
func (o *rowOutput) write(ctx context.Context, r array.RecordReader, err error) error {
	if err != nil {
		return err
	}
	defer r.Release()
	if o.file != "" {
		return o.writeFile(ctx, r)
	}
	return o.writeRows(o.a.out, r, true)
}

func (o *rowOutput) writeFile(ctx context.Context, r array.RecordReader) error {
	f, err := output.Create(ctx, o.file, o.force)
	if err != nil {
		return suggestForce(err)
	}
	err = o.writeRows(f, r, false)
	if err != nil {
		if r.Err() == nil { // an error from the input already names the input
			if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
				err = failed.Err // without the name of the temporary file
			}
			err = fmt.Errorf("%s: %w", o.file, err)
		}
		return errors.Join(err, f.Abort())
	}
	return f.Commit()
}

// suggestForce adds "use --force" to err if err means that the output file exists.
func suggestForce(err error) error {
	if errors.Is(err, output.ErrExists) {
		return cliutil.Advise(err, ": to replace it, use --force")
	}
	return err
}

// writeRows writes the rows of r to out. stream selects Arrow's stream format instead of its file format.
func (o *rowOutput) writeRows(out io.Writer, r array.RecordReader, stream bool) error {
	buffered := bufio.NewWriterSize(out, 1<<18)
	return cmp.Or(o.encodeRows(buffered, r, stream), buffered.Flush())
}

func (o *rowOutput) encodeRows(out io.Writer, r array.RecordReader, stream bool) error {
	w, err := o.chosenFormat.Write(out, r.Schema(), formats.WriteOptions{Stream: stream, Null: o.null})
	if err != nil {
		return err
	}
	for r.Next() {
		if err := w.Write(r.RecordBatch()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	return w.Close()
}

// openInput opens a file, or the standard input if name is "-". flag is the name of the flag for the format. total is
// the file's size, or -1 if it is unknown.
func (a *app) openInput(name, flag, format string) (input *formats.Input, total int64, err error) {
	input = &formats.Input{Name: name, File: a.in}
	input.Format, err = a.inputFormat(name, flag, format)
	if err == nil && name != "-" {
		input.File, err = os.Open(name)
	}
	if err != nil {
		return nil, 0, err
	}
	if name == "-" {
		input.Name = "standard input"
	}
	total = -1
	if info, err := input.File.Stat(); err == nil && info.Mode().IsRegular() {
		total = info.Size()
	}
	return input, total, nil
}

// noteDataInHeader prints a note if the first line of a file, which was read as the header, looks like data.
func (a *app) noteDataInHeader(file string, columns *arrow.Schema) {
	isNumeric := make([]bool, columns.NumFields())
	for i, f := range columns.Fields() {
		isNumeric[i] = arrow.IsInteger(f.Type.ID()) || arrow.IsFloating(f.Type.ID())
	}
	names := schema.Names(columns)
	if i := records.DataInHeader(names, isNumeric, make([]bool, len(names))); i >= 0 {
		fmt.Fprintf(a.errOut, "partd-tables: note: %s: the first line was read as the header, but %q looks like data: if it is data, insert a line with the names\n", file, names[i])
	}
}

// inputFormat returns the format called name, which is the value of the flag. If name is "", it returns the format of the
// file's extension.
func (a *app) inputFormat(file, flag, name string) (*formats.Format, error) {
	readable := a.formats.Readable()
	switch {
	case name != "":
		return findFormat(flag, name, readable)
	case file == "-":
		return nil, cliutil.Usagef("standard input needs a format: use --%s with %s", flag, readable.Choice())
	}
	f, err := readable.ForInput(file)
	if err != nil {
		return nil, cliutil.UsageError{Err: unknownFormat{cliutil.Advise(err, fmt.Sprintf(": use --%s with %s", flag, readable.Choice())), readable.Choice()}}
	}
	return f, nil
}
