package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

const maxThreads = 256

type inputFlags struct {
	format, progress  *string
	text              *records.TextOptions
	where, columns    *string
	asJSON, quiet     *bool
	memory            *cliutil.Size
	threads           *int
	manyFormatsAdvice string // advice for the error about files of different formats
}

// newInputFlags adds the input flags to a command, without the text options named by except.
func newInputFlags(cmd *cobra.Command, jsonUsage, manyFormatsAdvice string, except ...string) inputFlags {
	fs := cmd.Flags()
	f := inputFlags{
		format:            fs.String("format", "", "read files in this `FORMAT`: "+records.FormatNames),
		text:              new(records.TextOptions),
		where:             fs.String("where", "", "read only records for which this `CONDITION` is true, such as \"size > 9 and kind != 'x'\""),
		columns:           fs.String("columns", "", "write only these `COLUMNS`, separated by commas, in the given order"),
		memory:            memoryFlag(fs),
		threads:           fs.Int("threads", runtime.GOMAXPROCS(0), "use `N` threads"),
		progress:          cliutil.ProgressFlag(cmd),
		quiet:             fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:            jsonFlag(cmd, jsonUsage),
		manyFormatsAdvice: manyFormatsAdvice,
	}
	for _, o := range records.Options(f.text, except...) {
		cliutil.AddFlag(cmd, o.Value, o.Name, o.Usage, o.Suggestions)
	}
	cliutil.Complete(cmd, "format", "csv", "tsv", "jsonl", "text")
	completeFields(cmd, "columns", &f)
	return f
}

// check returns an error if the flags are invalid. It does not read the files.
func (f *inputFlags) check() error {
	if *f.threads < 1 || *f.threads > maxThreads {
		return cliutil.Usagef("--threads must be from 1 to %d, not %d", maxThreads, *f.threads)
	}
	return cliutil.CheckProgress(*f.progress)
}

func (f *inputFlags) showsProgress(a *app) bool {
	return !*f.quiet && cliutil.ShowsProgress(*f.progress, a.errOut)
}

// layout determines the layout of files from the flags and the file extensions. It ignores
// extensions for compression, such as .gz.
func (f *inputFlags) layout(files []string) (l records.Layout, err error) {
	var format records.Format
	if *f.format != "" {
		format, err = records.ParseFormat(*f.format)
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
		fileFormat := records.FormatOf(zfile.TrimName(file))
		if i > 0 && fileFormat != format {
			return l, cliutil.Usagef("%s looks like %s, but %s looks like %s: set --format%s",
				files[0], format, file, fileFormat, f.manyFormatsAdvice)
		}
		format = fileFormat
	}
	l, err = f.text.Layout(format)
	if err != nil {
		return l, cliutil.UsageError{Err: err}
	}
	return l, nil
}

// joinLayouts returns the layouts of the two files of a join. If the name of only one file tells its
// format, --format and --sep apply to the other file. If that known format is csv, --sep applies to
// both files.
func (f *inputFlags) joinLayouts(files []string) (left, right records.Layout, err error) {
	both := [2]inputFlags{*f, *f}
	fileFormats := [2]records.Format{}
	for i, file := range files {
		fileFormats[i] = records.FormatOf(zfile.TrimName(file))
	}
	for i := range files {
		text := *f.text
		both[i].text = &text
		if fileFormats[i] == records.JSONL && fileFormats[1-i] != records.JSONL {
			text.Ragged = records.RefuseRagged
		}
		if fileFormats[i] == records.Text || fileFormats[1-i] != records.Text || *f.format == "" {
			continue
		}
		both[i].format = new(string)
		text.NoHeader = text.NoHeader && fileFormats[i] != records.JSONL
		if fileFormats[i] != records.CSV {
			text.Sep = ""
		}
	}
	left, err = both[0].layout(files[:1])
	if err != nil {
		return left, right, err
	}
	right, err = both[1].layout(files[1:])
	return left, right, err
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
				c = string(textfmt.AppendCSV(nil, []byte(c), ','))
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
			// Complete the first of two arguments with a comma.
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
