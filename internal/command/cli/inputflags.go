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
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/output"
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

// completeFields registers completion for a flag that lists fields. It offers the columns of the
// first file.
func completeFields(cmd *cobra.Command, flag string, f *inputFlags) {
	const namesOnly = cobra.ShellCompDirectiveNoFileComp
	cliutil.Must(cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, files []string, prefix string) ([]string, cobra.ShellCompDirective) {
		before := prefix[:strings.LastIndexByte(prefix, ',')+1]
		var names []string
		for _, c := range columnsOf(cmd, files, f) {
			if strings.ContainsAny(c, ",\"") {
				c = string(output.AppendCSV(nil, []byte(c), ','))
			}
			names = append(names, before+c)
		}
		return names, namesOnly
	}))
}

// completeAggregates registers completion of the last aggregate of --agg.
func completeAggregates(cmd *cobra.Command, f *inputFlags) {
	const noSpace = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	cliutil.Must(cmd.RegisterFlagCompletionFunc("agg", func(cmd *cobra.Command, files []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var completions []string
		if open := strings.LastIndexByte(prefix, '('); open > strings.LastIndexByte(prefix, ')') { // inside an aggregate's parentheses
			suffix := ")"
			spec, err := aggregate.Parse(prefix[strings.LastIndexByte(prefix[:open], ',')+1:open] + "(x,0)")
			// the first of two arguments
			if err == nil && spec[0].Field == "x" && !strings.Contains(prefix[open:], ",") {
				suffix = ","
			}
			before := prefix[:strings.LastIndexAny(prefix, "(,")+1]
			for _, c := range columnsOf(cmd, files, f) {
				completions = append(completions, before+c+suffix)
			}
			return completions, noSpace
		}
		before := prefix[:strings.LastIndexByte(prefix, ',')+1]
		for a := range strings.SplitSeq(aggregate.Names, ", ") {
			name, _, hasArgument := strings.Cut(a, "(")
			if hasArgument {
				name += "("
			}
			completions = append(completions, before+name)
		}
		return completions, noSpace
	}))
}

// maxHeaderSearch is the size of the beginning of a file that is searched for a header, in bytes.
const maxHeaderSearch = 1 << 20

func columnsOf(cmd *cobra.Command, files []string, f *inputFlags) []string {
	if env.Apply(cmd) != nil || len(files) == 0 || files[0] == filejobs.Stdin {
		return nil
	}
	layout, err := f.layout(files[:1])
	if err != nil || !layout.HasHeader() {
		return nil
	}
	columns, err := filejobs.Columns(files[0], layout, maxHeaderSearch)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(columns, func(c string) bool { return !cliutil.IsPrintable(c) })
}
