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
	sep, err := unescape(*f.sep)
	l := records.Layout{NoHeader: *f.noHeader, Sep: sep}
	if err != nil {
		return l, cliutil.Usagef("--sep: %w", err)
	}
	if *f.format != "" {
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

// checkFields finds what is wrong with a list of fields, as far as that shows
// before a file is read: without a header, only numbers will do.
func checkFields(flag, list string, l records.Layout) error {
	if l.HasHeader() {
		return nil // any text may be the name of a column
	}
	if _, err := filejobs.ResolveFields(list, l, nil); err != nil {
		return cliutil.Usagef("--%s %q: %w", flag, list, err)
	}
	return nil
}

// unescape reads a separator: \t is a tab, as it is hard to type, and \\ a
// backslash.
func unescape(text string) (string, error) {
	rest := strings.NewReplacer(`\\`, "", `\t`, "").Replace(text)
	if strings.Contains(rest, `\`) {
		return "", cliutil.Usagef(`%q holds a backslash: \t is a tab, \\ is a backslash`, text)
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(text), nil
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
