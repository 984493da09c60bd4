package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/zfile"
)

// inputFlags are the flags of all commands that read files.
type inputFlags struct {
	format, sep, progress *string
	noHeader, skipBad     *bool
	asJSON, quiet         *bool
	memory                *size
	threads               *int
	manyFormats           string // what to do about files of different formats, for messages
}

func newInputFlags(cmd *cobra.Command, jsonUsage, manyFormats string) inputFlags {
	fs := cmd.Flags()
	f := inputFlags{
		format:      fs.String("format", "", "`FORMAT` of the files: "+records.Names),
		noHeader:    fs.Bool("no-header", false, "csv and tsv: the first record is data"),
		sep:         fs.String("sep", "", "text: the `STRING` between fields; csv: the byte; \\t is a tab"),
		skipBad:     fs.Bool("skip-bad", false, "leave out and count records that cannot be used"),
		memory:      memoryFlag(fs),
		threads:     threadsFlag(fs),
		progress:    cliutil.ProgressFlag(cmd),
		quiet:       fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:      jsonFlag(cmd, jsonUsage),
		manyFormats: manyFormats,
	}
	complete(cmd, "format", "csv", "tsv", "jsonl", "text")
	return f
}

// check finds what is wrong with the flags whatever the files hold.
func (f *inputFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("sep") && *f.sep == "" {
		return usagef("--sep is empty: leave it out for commas in csv, and for runs of white space in text")
	}
	if err := checkThreads(*f.threads); err != nil {
		return err
	}
	return cliutil.CheckProgress(*f.progress)
}

// layout returns what the flags and the files' names tell of the files. What a
// name says of compression does not count.
func (f *inputFlags) layout(files []string) (records.Layout, error) {
	sep, err := unescape(*f.sep)
	l := records.Layout{NoHeader: *f.noHeader, Sep: sep}
	if err != nil {
		return l, usagef("--sep: %w", err)
	}
	if *f.format != "" {
		if l.Format, err = records.ParseFormat(*f.format); err != nil {
			return l, usagef("--format: %w", err)
		}
	}
	for i, file := range files {
		if *f.format != "" {
			break
		}
		if file == stdin {
			return l, usagef("standard input needs --format: %s", records.Names)
		}
		format := records.FormatOf(zfile.TrimName(file))
		if i > 0 && format != l.Format {
			return l, usagef("%s looks like %s, and %s like %s: give --format%s",
				files[0], l.Format, file, format, f.manyFormats)
		}
		l.Format = format
	}
	if err := l.Check(); err != nil {
		return l, usagef("--sep: %w", err)
	}
	if l.NoHeader && (l.Format == records.JSONL || l.Format == records.Text) {
		return l, usagef("--no-header is for csv and tsv; %s has no header", l.Format)
	}
	return l, nil
}

// checkFields finds what is wrong with a list of fields, as far as that shows
// before a file is read: without a header, only numbers will do.
func checkFields(flag, list string, l records.Layout) error {
	if l.HasHeader() {
		return nil // any text may be the name of a column
	}
	if _, err := resolveBy(list, l, nil); err != nil {
		return usagef("--%s %q: %w", flag, list, err)
	}
	return nil
}

// unescape reads a separator: \t is a tab, as it is hard to type, and \\ a
// backslash.
func unescape(text string) (string, error) {
	rest := strings.NewReplacer(`\\`, "", `\t`, "").Replace(text)
	if strings.Contains(rest, `\`) {
		return "", usagef(`%q holds a backslash: \t is a tab, \\ is a backslash`, text)
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(text), nil
}

// dirs is a flag for directories, which may be repeated. The environment
// variable has colons between them.
type dirs struct {
	list  []string
	given bool
}

func (d *dirs) String() string { return strings.Join(d.list, string(filepath.ListSeparator)) }

// Type is what pflag calls the kind of value.
func (d *dirs) Type() string { return "dirs" }

// Set adds directories.
func (d *dirs) Set(text string) error {
	for _, dir := range filepath.SplitList(text) {
		if dir == "" {
			return usagef("%q lists a directory without a name", text)
		}
		d.list = append(d.list, dir)
	}
	d.given = true
	return nil
}

// tmpFlag adds --tmp.
func tmpFlag(fs *pflag.FlagSet) *dirs {
	d := &dirs{}
	fs.Var(d, "tmp", "`DIR` for temporary data, $TMPDIR without it; may be repeated, or list several between colons")
	return d
}

// places returns where temporary data go.
func (d *dirs) places() ([]string, error) {
	if len(d.list) == 0 {
		return []string{os.TempDir()}, nil
	}
	for _, dir := range d.list {
		if info, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("--tmp: %w", err)
		} else if !info.IsDir() {
			return nil, usagef("--tmp %s is no directory", dir)
		}
	}
	return d.list, nil
}
