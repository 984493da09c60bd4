package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/zfile"
)

// outputFlags are the flags of all commands that make files of files.
type outputFlags struct {
	directory        bool // files are written to one, and there is no output
	output, toFormat *string
	force, stats     *bool
	tmp              *[]string
}

func newOutputFlags(cmd *cobra.Command) outputFlags {
	f := directoryFlags(cmd, "by default that of the name of FILE, or of the input", "replace what is there")
	f.directory = false
	cmd.Flags().StringVarP(f.output, "output", "o", "", "the `FILE` to write, whole or not at all (default: standard output)")
	return f
}

// directoryFlags are those of a command that writes files to a directory.
func directoryFlags(cmd *cobra.Command, toFormat, force string) outputFlags {
	fs := cmd.Flags()
	f := outputFlags{
		directory: true,
		output:    new(string),
		toFormat:  fs.String("to-format", "", "`FORMAT` to write: "+records.Names+"; "+toFormat),
		force:     fs.Bool("force", false, force),
		stats:     fs.Bool("stats", false, "show what was done, and the proof that no record is missing"),
		tmp:       fs.StringArray("tmp", nil, "`DIR` for temporary data (default: $TMPDIR); may be repeated, or list several separated by colons"),
	}
	cliutil.Complete(cmd, "to-format", "csv", "tsv", "jsonl", "text")
	return f
}

// toLayout returns how the output is written.
func (f *outputFlags) toLayout(in records.Layout) (records.Layout, error) {
	format := in.Format
	if *f.toFormat != "" {
		var err error
		if format, err = records.ParseFormat(*f.toFormat); err != nil {
			return in, cliutil.Usagef("--to-format: %w", err)
		}
	} else if name := zfile.TrimName(*f.output); filepath.Ext(name) != "" {
		if named := records.FormatOf(name); named != records.Text {
			format = named
		}
	}
	if strings.EqualFold(filepath.Ext(zfile.TrimName(*f.output)), ".json") && format != records.JSONL && *f.toFormat == "" {
		return in, cliutil.Usagef("%s: %s would be written to a file named as JSON: name it .jsonl, or give --to-format", *f.output, format)
	}
	if format == in.Format {
		return in, nil
	}
	return records.Layout{Format: format, NoHeader: !in.HasHeader() && in.Format != records.JSONL}, nil
}

// toStdout reports whether the data go to the standard output.
func (f *outputFlags) toStdout() bool {
	return !f.directory && (*f.output == "" || *f.output == filejobs.Stdin)
}

// shownOutput is how the output is named in messages.
func (f *outputFlags) shownOutput() string {
	if f.toStdout() {
		return "standard output"
	}
	return *f.output
}
