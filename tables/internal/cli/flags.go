package cli

import (
	"bufio"
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// modeFlag adds the flag --mode for puts. Call the returned function after the flags are parsed.
func modeFlag(cmd *cobra.Command, name, defaultMode string) func() (tables.PutMode, error) {
	mode := cmd.Flags().String("mode", defaultMode, "`MODE` if "+name+" exists: error, append or replace")
	cliutil.Complete(cmd, "mode", "error", "append", "replace")
	return func() (tables.PutMode, error) {
		if m, ok := operations.PutModes[*mode]; ok {
			return m, nil
		}
		return 0, cliutil.Usagef("--mode %q: use error, append or replace", *mode)
	}
}

func formatFlag(cmd *cobra.Command) *string {
	format := cmd.Flags().String("format", "", "`FORMAT` of FILE: csv, tsv, jsonl, parquet or arrow (default: from its name)")
	cliutil.Complete(cmd, "format", formats.Names...)
	return format
}

// rangeFlags adds the flags --from and --to with these usage texts. Call the returned function after the flags are
// parsed.
func rangeFlags(cmd *cobra.Command, from, to string) func() (from, to time.Time, err error) {
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

// rowOutput is the destination of the rows that a command writes.
type rowOutput struct {
	a            *app
	formatFlag   string // its name
	format       string
	file         string         // "" means the standard output; chooseFormat replaces "-" with ""
	force        bool           // replace an existing file
	chosenFormat formats.Format // set by chooseFormat
}

// outputFlags adds the flags for the rows that a command writes. formatFlag is the name of the flag for their format.
func outputFlags(a *app, cmd *cobra.Command, formatFlag string) *rowOutput {
	o, fs := &rowOutput{a: a, formatFlag: formatFlag}, cmd.Flags()
	fs.StringVar(&o.format, formatFlag, "", "write this `FORMAT`: table, csv, jsonl, parquet or arrow")
	fs.StringVarP(&o.file, "output", "o", "", "write to this `FILE` instead of the standard output (-)")
	fs.BoolVar(&o.force, "force", false, "replace an existing FILE")
	cliutil.Complete(cmd, formatFlag, "table", "csv", "jsonl", "parquet", "arrow")
	return o
}

// aliasFlag adds a hidden flag, which sets the same value as the flag name: its former name.
func aliasFlag(cmd *cobra.Command, alias, name string) {
	f := *cmd.Flags().Lookup(name)
	f.Name, f.Hidden = alias, true
	cmd.Flags().AddFlag(&f)
}

// chooseFormat sets chosenFormat from the flags. Without flags, the format is a table if the output is a terminal, and
// CSV otherwise.
func (o *rowOutput) chooseFormat() (err error) {
	if o.file == "-" {
		o.file = ""
	}
	switch {
	case o.format != "":
		o.chosenFormat = formats.Format(o.format)
		return checkFormat(o.formatFlag, o.chosenFormat, true)
	case o.file != "":
		if o.chosenFormat, err = formats.ByName(o.file); err != nil {
			return cliutil.Usagef("%w: set --%s to csv, jsonl, parquet, arrow or table", err, o.formatFlag)
		}
	case progress.IsTerminal(o.a.out):
		o.chosenFormat = formats.Table
	default:
		o.chosenFormat = formats.CSV
	}
	return nil
}

// scan writes the rows of a table that options selects. columns is a comma-separated list of names; "" means all.
func (o *rowOutput) scan(ctx context.Context, p location, name string, at tables.At, columns string, options *tables.ScanOptions) error {
	names, err := columnNames("columns", columns)
	if err = errors.Join(err, o.chooseFormat()); err != nil {
		return err
	}
	options.Columns, options.Dictionaries = names, o.chosenFormat == formats.Arrow
	return p.withBackend(ctx, false, func(s backend) error {
		r, err := s.Scan(ctx, *p.bucket, name, at, options)
		return o.write(ctx, r, err)
	})
}

// write writes a reader's rows, and releases r. r and err are the results of opening r; if err is set, write returns
// err.
func (o *rowOutput) write(ctx context.Context, r array.RecordReader, err error) error {
	if err != nil {
		return err
	}
	defer r.Release()
	if o.file != "" {
		return writeFile(ctx, o.file, o.force, o.chosenFormat, r)
	}
	w := bufio.NewWriterSize(o.a.out, 1<<16)
	return errors.Join(writeRows(w, o.chosenFormat, r, true), w.Flush())
}
