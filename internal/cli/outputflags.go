package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/zfile"
)

// outputFlags are the flags of all commands that make files of files.
type outputFlags struct {
	output, toFormat *string
	force, stats     *bool
	tmp              *dirs
}

func newOutputFlags(cmd *cobra.Command) outputFlags {
	fs := cmd.Flags()
	f := outputFlags{
		output:   fs.StringP("output", "o", "", "the `FILE` to write, whole or not at all; without it, standard output"),
		toFormat: toFormatFlag(cmd, "without it, as the name of FILE says, or that of the input"),
		force:    fs.Bool("force", false, "replace what is there"),
		stats:    statsFlag(fs),
		tmp:      tmpFlag(fs),
	}
	return f
}

func toFormatFlag(cmd *cobra.Command, without string) *string {
	flag := cmd.Flags().String("to-format", "", "`FORMAT` to write: "+records.Names+"; "+without)
	complete(cmd, "to-format", "csv", "tsv", "jsonl", "text")
	return flag
}

func statsFlag(fs *pflag.FlagSet) *bool {
	return fs.Bool("stats", false, "show what was done, and the proof that no record is missing")
}

// toLayout returns how the output is written.
func (f *outputFlags) toLayout(in records.Layout) (records.Layout, error) {
	format := in.Format
	if *f.toFormat != "" {
		var err error
		if format, err = records.ParseFormat(*f.toFormat); err != nil {
			return in, usagef("--to-format: %w", err)
		}
	} else if name := zfile.TrimName(*f.output); filepath.Ext(name) != "" {
		if named := records.FormatOf(name); named != records.Text {
			format = named
		}
	}
	if strings.EqualFold(filepath.Ext(zfile.TrimName(*f.output)), ".json") && format != records.JSONL && *f.toFormat == "" {
		return in, usagef("%s: %s would be written to a file named as JSON: name it .jsonl, or give --to-format", *f.output, format)
	}
	if format == in.Format {
		return in, nil
	}
	return records.Layout{Format: format, NoHeader: !in.HasHeader() && in.Format != records.JSONL}, nil
}

// shownOutput is how the output is named in messages.
func (f *outputFlags) shownOutput() string {
	if *f.output == "" || strings.TrimSpace(*f.output) == stdin {
		return "standard output"
	}
	return *f.output
}
