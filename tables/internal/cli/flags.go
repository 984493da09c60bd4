package cli

import (
	"bufio"
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/progress"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/formats"
	"github.com/go-partd/partd/tables/internal/wire"
)

// must panics on an error that only a mistake in this program makes, such as a flag that
// does not exist.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// modeFlag is the flag for the mode of a put. Call the function
// once the flags are parsed.
func modeFlag(cmd *cobra.Command, name, byDefault string) func() (tables.PutMode, error) {
	mode := cmd.Flags().String("mode", byDefault, "what to do if "+name+" exists: `MODE` is error, append or replace")
	cliutil.Complete(cmd, "mode", "error", "append", "replace")
	return func() (tables.PutMode, error) {
		if m, ok := wire.PutModes[*mode]; ok {
			return m, nil
		}
		return 0, cliutil.Usagef("--mode is error, append or replace, not %q", *mode)
	}
}

// formatFlag is the flag for the format of a file to read.
func formatFlag(cmd *cobra.Command) *string {
	format := cmd.Flags().String("format", "", "the `FORMAT` of FILE: csv, jsonl, parquet or arrow")
	cliutil.Complete(cmd, "format", formats.Names...)
	return format
}

// rangeFlags are the flags for a range of time. Call the function
// once the flags are parsed.
func rangeFlags(cmd *cobra.Command, from, to string) func() (first, end time.Time, err error) {
	texts := []*string{cmd.Flags().String("from", "", from), cmd.Flags().String("to", "", to)}
	return func() (_, _ time.Time, err error) {
		var times [2]time.Time
		for i, text := range texts {
			if *text == "" {
				continue
			}
			if times[i], _, err = filter.ParseTime(*text); err != nil {
				return times[0], times[1], cliutil.Usagef("--%s: %w", []string{"from", "to"}[i], err)
			}
		}
		return times[0], times[1], nil
	}
}

// result is where a command writes rows.
type result struct {
	a      *app
	format string
	file   string // "" is the standard output
	force  bool   // replace the file
	as     formats.Format
}

func resultFlags(a *app, cmd *cobra.Command) *result {
	o, fs := &result{a: a}, cmd.Flags()
	fs.StringVar(&o.format, "format", "", "`FORMAT` to write: table, csv, jsonl, parquet or arrow")
	fs.StringVarP(&o.file, "output", "o", "", "the `FILE` to write")
	fs.BoolVar(&o.force, "force", false, "replace an existing file")
	cliutil.Complete(cmd, "format", append([]string{"table"}, formats.Names...)...)
	return o
}

// choose finds out in which format to write.
func (o *result) choose() (err error) {
	switch {
	case o.format != "":
		o.as = formats.Format(o.format)
		return checkFormat(o.as, true)
	case o.file != "":
		if o.as, err = formats.ByName(o.file); err != nil {
			return cliutil.UsageError{Err: err}
		}
	case progress.IsTerminal(o.a.out):
		o.as = formats.Table
	default:
		o.as = formats.CSV
	}
	return nil
}

// scan writes rows of a table, with some of its columns or all.
func (o *result) scan(ctx context.Context, p place, name string, at tables.At, columns string, rows *tables.ScanOptions) error {
	names, err := columnNames("columns", columns)
	if err = errors.Join(err, o.choose()); err != nil {
		return err
	}
	rows.Columns, rows.Dictionaries = names, o.as == formats.Arrow
	return p.with(ctx, false, func(s backend) error {
		r, err := s.Scan(ctx, *p.bucket, name, at, rows)
		return o.write(ctx, r, err)
	})
}

// write writes the rows of a reader and releases it, or returns the error of opening it.
func (o *result) write(ctx context.Context, r array.RecordReader, err error) error {
	if err != nil {
		return err
	}
	defer r.Release()
	if o.file != "" {
		return writeFile(ctx, o.file, o.force, o.as, r)
	}
	// Some formats are written in many small pieces.
	w := bufio.NewWriterSize(o.a.out, 1<<16)
	return errors.Join(writeRows(w, o.as, r, true), w.Flush())
}
