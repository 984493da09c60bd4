package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/zfile"
)

const maxThreads = 256

// inputFlags are the flags of all commands that read files.
type inputFlags struct {
	format, sep, progress *string
	noHeader, skipBad     *bool
	asJSON, quiet         *bool
	memory                *sizeflag.Size
	threads               *int
	manyFormats           string // what to do about files of different formats, for messages
}

func newInputFlags(cmd *cobra.Command, jsonUsage, manyFormats string) inputFlags {
	fs := cmd.Flags()
	f := inputFlags{
		format:      fs.String("format", "", "`FORMAT` of the files: "+records.Names),
		noHeader:    fs.Bool("no-header", false, "csv and tsv: the first record is data"),
		sep:         fs.String("sep", "", "text: the `STRING` between fields; csv: the byte; \\t is a tab"),
		skipBad:     fs.Bool("skip-bad", false, "skip and count bad records"),
		memory:      memoryFlag(fs),
		threads:     fs.Int("threads", runtime.GOMAXPROCS(0), "the number `N` of threads"),
		progress:    cliutil.ProgressFlag(cmd),
		quiet:       fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:      jsonFlag(cmd, jsonUsage),
		manyFormats: manyFormats,
	}
	cliutil.Complete(cmd, "format", "csv", "tsv", "jsonl", "text")
	return f
}

// check finds what is wrong with the flags whatever the files hold.
func (f *inputFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("sep") && *f.sep == "" {
		return cliutil.Usagef("--sep is empty: leave it out for commas in csv, and for runs of white space in text")
	}
	if *f.threads < 1 || *f.threads > maxThreads {
		return cliutil.Usagef("--threads is a number from 1 to %d, not %d", maxThreads, *f.threads)
	}
	return cliutil.CheckProgress(*f.progress)
}

func (f *inputFlags) showsProgress(a *app) bool {
	return !*f.quiet && cliutil.ShowsProgress(*f.progress, a.err)
}

// layout returns what the flags and the files' names tell of the files. What a
// name says of compression does not count.
func (f *inputFlags) layout(files []string) (records.Layout, error) {
	// In a separator \t is a tab, as it is hard to type, and \\ a backslash.
	l := records.Layout{NoHeader: *f.noHeader, Sep: strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(*f.sep)}
	if strings.Contains(strings.NewReplacer(`\\`, "", `\t`, "").Replace(*f.sep), `\`) {
		return l, cliutil.Usagef(`--sep: %q holds a backslash: \t is a tab, \\ is a backslash`, *f.sep)
	}
	if *f.format != "" {
		var err error
		if l.Format, err = records.ParseFormat(*f.format); err != nil {
			return l, cliutil.Usagef("--format: %w", err)
		}
	}
	for i, file := range files {
		if *f.format != "" {
			break
		}
		if file == filejobs.Stdin {
			return l, cliutil.Usagef("standard input needs --format: %s", records.Names)
		}
		format := records.FormatOf(zfile.TrimName(file))
		if i > 0 && format != l.Format {
			return l, cliutil.Usagef("%s looks like %s, and %s like %s: give --format%s",
				files[0], l.Format, file, format, f.manyFormats)
		}
		l.Format = format
	}
	if err := l.Check(); err != nil {
		return l, cliutil.Usagef("--sep: %w", err)
	}
	if l.NoHeader && (l.Format == records.JSONL || l.Format == records.Text) {
		return l, cliutil.Usagef("--no-header is for csv and tsv; %s has no header", l.Format)
	}
	return l, nil
}

// tempDirs returns where temporary data go. Each value of --tmp may list several
// directories between colons.
func tempDirs(given []string) (dirs []string, err error) {
	for _, list := range given {
		all := filepath.SplitList(list)
		if slices.Contains(all, "") {
			return nil, cliutil.Usagef("--tmp: %q lists a directory without a name", list)
		}
		for _, dir := range all {
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
