package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

const maxThreads = 256

type inputFlags struct {
	format, sep, progress *string
	noHeader, skipBad     *bool
	rowNames              *bool
	where, columns        *string
	ragged                *records.Ragged
	values                *records.Values // nil if the command has no flags for it
	asJSON, quiet         *bool
	memory                *cliutil.Size
	threads               *int
	manyFormats           string // advice to add to the error about files of different formats
}

func newInputFlags(cmd *cobra.Command, jsonUsage, manyFormats string) inputFlags {
	fs := cmd.Flags()
	f := inputFlags{
		format:      fs.String("format", "", "read files in this `FORMAT`: "+records.FormatNames),
		noHeader:    fs.Bool("no-header", false, "treat the first record of csv and tsv as data"),
		sep:         fs.String("sep", "", "split fields of text and csv at this `STRING` (csv: one byte; \\t is a tab)"),
		rowNames:    fs.Bool("row-names", false, "name the first column row_names if the header of a csv or tsv file has one name too few, as in files written by R"),
		where:       fs.String("where", "", "read only records for which this `CONDITION` is true, such as \"size > 9 and kind != 'x'\""),
		columns:     fs.String("columns", "", "write these `COLUMNS`, in this order, separated by commas"),
		ragged:      new(records.Ragged),
		skipBad:     fs.Bool("skip-bad", false, "skip and count bad records"),
		memory:      memoryFlag(fs),
		threads:     fs.Int("threads", runtime.GOMAXPROCS(0), "use `N` threads"),
		progress:    cliutil.ProgressFlag(cmd),
		quiet:       fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:      jsonFlag(cmd, jsonUsage),
		manyFormats: manyFormats,
	}
	fs.VarPF(f.ragged, "ragged", "", records.RaggedUsage).NoOptDefVal = "true"
	cliutil.Complete(cmd, "ragged", records.RaggedNames...)
	cliutil.Complete(cmd, "format", "csv", "tsv", "jsonl", "text")
	completeFields(cmd, "columns", &f)
	return f
}

// addValues adds the flags that say how values of CSV and TSV are written.
func (f *inputFlags) addValues(cmd *cobra.Command) {
	f.values = &records.Values{}
	cmd.Flags().StringArrayVar(&f.values.Nulls, "null", nil, "read unquoted fields of csv and tsv that are this `TEXT`, such as NA, as missing values in --where, --agg and :n; repeat it for several")
	cliutil.NumberFlags(cmd, &f.values.Decimal, &f.values.Thousands)
}

// check returns an error if the flags are invalid. It does not read the files.
func (f *inputFlags) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("sep") && *f.sep == "" {
		return cliutil.Usagef("--sep is empty: omit it to use commas in csv, or white space in text")
	}
	if *f.threads < 1 || *f.threads > maxThreads {
		return cliutil.Usagef("--threads must be from 1 to %d, not %d", maxThreads, *f.threads)
	}
	return cliutil.CheckProgress(*f.progress)
}

func (f *inputFlags) showsProgress(a *app) bool {
	return !*f.quiet && cliutil.ShowsProgress(*f.progress, a.err)
}

// layout determines the layout of files from the flags and the file extensions. It ignores
// extensions for compression, such as .gz.
func (f *inputFlags) layout(files []string) (records.Layout, error) {
	l := records.Layout{NoHeader: *f.noHeader, RowNames: *f.rowNames, Ragged: *f.ragged}
	var err error
	l.Sep, err = parseSeparator("sep", *f.sep)
	if err != nil {
		return l, err
	}
	if *f.format != "" {
		var err error
		l.Format, err = records.ParseFormat(*f.format)
		if err != nil {
			return l, cliutil.Usagef("--format: %w", err)
		}
	}
	for i, file := range files {
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			return l, fmt.Errorf("%s is a directory: name its files, for example %s", file, filepath.Join(file, "*"))
		}
		if *f.format != "" {
			continue
		}
		if file == filejobs.Stdin {
			return l, cliutil.Usagef("standard input (-) needs --format: use one of %s", records.FormatNames)
		}
		format := records.FormatOf(zfile.TrimName(file))
		if i > 0 && format != l.Format {
			return l, cliutil.Usagef("%s looks like %s, but %s looks like %s: set --format%s",
				files[0], l.Format, file, format, f.manyFormats)
		}
		l.Format = format
	}
	if err := l.Check(); err != nil {
		return l, cliutil.Usagef("--sep: %w", err)
	}
	if l.NoHeader && (l.Format == records.JSONL || l.Format == records.Text) {
		return l, cliutil.Usagef("--no-header is only for csv and tsv: %s never has a header", l.Format)
	}
	if l.Ragged != records.RefuseRagged && (l.Format == records.JSONL || l.Format == records.Text) {
		return l, cliutil.Usagef("--ragged is only for csv and tsv: records of %s can have any number of fields", l.Format)
	}
	if f.values.IsSet() {
		if err := f.values.Check(string(l.Separator())); err != nil {
			return l, cliutil.Usagef("%w", err)
		}
		if l.Format == records.CSV || l.Format == records.TSV {
			l.Values = f.values
		}
	}
	if l.RowNames && !l.HasHeader() {
		return l, cliutil.Usagef("--row-names is only for csv and tsv with a header")
	}
	return l, nil
}

// joinLayouts returns the layouts of the two files of a join. If only one file's name tells its
// format, --format and --sep apply to the other file. If the known format is csv, --sep applies to
// both.
func (f *inputFlags) joinLayouts(files []string) (left, right records.Layout, err error) {
	both := [2]inputFlags{*f, *f}
	named := [2]records.Format{}
	for i, file := range files {
		named[i] = records.FormatOf(zfile.TrimName(file))
	}
	for i := range files {
		if named[i] == records.JSONL && named[1-i] != records.JSONL {
			both[i].ragged = new(records.Ragged)
		}
		if named[i] == records.Text || named[1-i] != records.Text || *f.format == "" {
			continue
		}
		format, sep, noHeader := "", *f.sep, *f.noHeader && named[i] != records.JSONL
		if named[i] != records.CSV {
			sep = ""
		}
		both[i].format, both[i].sep, both[i].noHeader = &format, &sep, &noHeader
	}
	left, err = both[0].layout(files[:1])
	if err != nil {
		return left, right, err
	}
	right, err = both[1].layout(files[1:])
	return left, right, err
}

// parseSeparator returns the separator that a flag names: \t means a tab, which is hard to type, and \\ means a
// backslash.
func parseSeparator(flag, text string) (string, error) {
	if strings.Contains(strings.NewReplacer(`\\`, "", `\t`, "").Replace(text), `\`) {
		return "", cliutil.Usagef(`--%s: %q has a backslash: write \t for a tab, or \\ for a backslash`, flag, text)
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(text), nil
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

// outputFlags are the flags of all commands that turn files into files.
type outputFlags struct {
	toDirectory      bool // the command writes files to a directory, and has no --output
	output, toFormat *string
	toSep            *string
	force, stats     *bool
	tmp              *[]string
}

func newOutputFlags(cmd *cobra.Command) outputFlags {
	f := directoryFlags(cmd, "by default that of the --output name, or of the input", "replace an existing file")
	f.toDirectory = false
	cmd.Flags().StringVarP(f.output, "output", "o", "", "write to `FILE`, which appears only when complete (default: standard output)")
	return f
}

// directoryFlags returns the flags of a command that writes files to a directory.
func directoryFlags(cmd *cobra.Command, toFormat, force string) outputFlags {
	fs := cmd.Flags()
	f := outputFlags{
		toDirectory: true,
		output:      new(string),
		toFormat:    fs.String("to-format", "", "write this `FORMAT`: "+records.FormatNames+"; "+toFormat),
		toSep:       fs.String("to-sep", "", "separate fields of text and csv by this `STRING` (default: the input's separator if the format does not change)"),
		force:       fs.Bool("force", false, force),
		stats:       fs.Bool("stats", false, "show a summary, which proves that no record is missing"),
		tmp:         fs.StringArray("tmp", nil, "put temporary data into `DIR` (default: $TMPDIR); repeat it, or separate several by colons"),
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
	sep, err := parseSeparator("to-sep", *f.toSep)
	if err != nil {
		return in, err
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
