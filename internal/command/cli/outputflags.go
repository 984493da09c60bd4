package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

// outputFlags holds the output flags of commands that read files and write files.
type outputFlags struct {
	toDirectory      bool // the command writes files to a directory and has no --output
	output, toFormat *string
	toSep            *string
	force, stats     *bool
	tmp              *[]string
}

func newOutputFlags(cmd *cobra.Command) outputFlags {
	f := directoryFlags(cmd, "by default the format of the --output name, or of the input", "replace an existing file")
	f.toDirectory = false
	cmd.Flags().StringVarP(f.output, "output", "o", "", "write to `FILE`, which appears only when complete (default: standard output)")
	return f
}

// directoryFlags adds the output flags of a command that writes files to a directory.
func directoryFlags(cmd *cobra.Command, defaultFormat, forceUsage string) outputFlags {
	fs := cmd.Flags()
	f := outputFlags{
		toDirectory: true,
		output:      new(string),
		toFormat:    fs.String("to-format", "", "write this `FORMAT`: "+records.FormatNames+"; "+defaultFormat),
		toSep:       fs.String("to-sep", "", "separate fields of text and csv by this `STRING` (default: the input's separator if the format does not change)"),
		force:       fs.Bool("force", false, forceUsage),
		stats:       fs.Bool("stats", false, "show a summary, which proves that no record is missing"),
		tmp:         fs.StringArray("tmp", nil, "put temporary data into `DIR` (default: $TMPDIR); repeat the flag, or separate directories by colons"),
	}
	cliutil.Complete(cmd, "to-format", "csv", "tsv", "jsonl", "text")
	return f
}

func (f *outputFlags) toLayout(in records.Layout) (records.Layout, error) {
	format := in.Format
	if *f.toFormat != "" {
		var err error
		format, err = records.ParseFormat(*f.toFormat)
		if err != nil {
			return in, cliutil.Usagef("--to-format: %w", err)
		}
	} else if name := zfile.TrimName(*f.output); filepath.Ext(name) != "" {
		if named := records.FormatOf(name); named != records.Text {
			format = named
		}
	}
	if strings.EqualFold(filepath.Ext(zfile.TrimName(*f.output)), ".json") && format != records.JSONL && *f.toFormat == "" {
		return in, cliutil.Usagef("%s: %s would be written to a file with a JSON name: name it .jsonl, or set --to-format", *f.output, format)
	}
	sep, err := records.ParseSeparator(*f.toSep)
	if err != nil {
		return in, cliutil.Usagef("--to-sep: %w", err)
	}
	l := in
	if format != in.Format {
		l = records.Layout{Format: format, NoHeader: !in.HasHeader() && in.Format != records.JSONL}
	}
	if sep == "" || sep == string(l.Separator()) {
		return l, nil
	}
	l.Sep = sep
	if err := l.Check(); err != nil {
		return l, cliutil.Usagef("--to-sep: %w", err)
	}
	return l, nil
}

func (f *outputFlags) toStdout() bool {
	return !f.toDirectory && (*f.output == "" || *f.output == filejobs.Stdin)
}

func (f *outputFlags) shownOutput() string {
	if f.toStdout() {
		return "standard output"
	}
	return *f.output
}

// tempDirs returns the directories for temporary data. Each value of --tmp can list several
// directories, separated by colons.
func tempDirs(lists []string) (dirs []string, err error) {
	for _, list := range lists {
		paths := filepath.SplitList(list)
		if slices.Contains(paths, "") {
			return nil, cliutil.Usagef("--tmp: %q has an empty directory name", list)
		}
		for _, dir := range paths {
			if info, err := os.Stat(dir); err != nil {
				return nil, fmt.Errorf("--tmp: %w", err)
			} else if !info.IsDir() {
				return nil, cliutil.Usagef("--tmp %s is not a directory", dir)
			}
			dirs = append(dirs, dir)
		}
	}
	if dirs == nil {
		dirs = []string{os.TempDir()}
	}
	return dirs, nil
}
