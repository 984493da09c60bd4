package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// jobFlags are the flags of commands that read files without a table.
type jobFlags struct {
	a        *app
	from     *string
	memory   cliutil.Size
	progress *string
	json     *bool
	text     *textFlags

	perFile bool     // whether each file is a separate input
	files   []string // the file of each input if perFile is set
}

const minJobMemory = 64 << 20

func newJobFlags(a *app, cmd *cobra.Command) *jobFlags {
	f := &jobFlags{a: a, memory: cliutil.Size{Bytes: bulk.DefaultMemory, Min: minJobMemory}}
	f.from = a.formatFlag(cmd, "from")
	f.json = cmd.Flags().Bool("json", false, "write the row and file counts as JSON")
	cmd.Flags().Var(&f.memory, "memory", "use about this `SIZE` of memory, 64MiB or more (256MiB led to up to 404MiB in benchmarks); a row may take a quarter of it")
	f.progress = cliutil.ProgressFlag(cmd)
	f.text = newTextFlags(a, cmd)
	return f
}

// bulkFlags are the flags of a job with one input, whose key or sort columns --by names.
type bulkFlags struct {
	*jobFlags
	by *string
}

func newBulkFlags(a *app, cmd *cobra.Command, byUsage string) *bulkFlags {
	f := &bulkFlags{newJobFlags(a, cmd), cmd.Flags().String("by", "", byUsage)}
	cmd.Args = cliutil.CheckArgCount(1, -1, "one or more FILEs, or - for the standard input")
	return f
}

// run calls f with the rows of the files and the columns named by --by; see runInputs.
func (b *bulkFlags) run(ctx context.Context, paths []string, heap int64, tempDirs string, f func(rows []array.RecordReader, by []string) error) error {
	if *b.by == "" {
		return cliutil.Usagef("--by is required: name the columns")
	}
	by, err := columnNames("by", *b.by)
	if err != nil {
		return err
	}
	return b.runInputs(ctx, [][]string{paths}, heap, 0, tempDirs, func(rows []array.RecordReader) error { return f(rows, by) })
}

// runInputs shows the progress and calls f with the rows of each input, which is a list of paths. If perFile is set,
// there must be only one list, and f gets the rows of each of its files separately. The heap may use heap bytes until the
// last row has been read, and then heapAfter bytes, unless heapAfter is 0. tempDirs describes, for messages, where the
// temporary files are.
func (b *jobFlags) runInputs(ctx context.Context, inputs [][]string, heap, heapAfter int64, tempDirs string, f func(rows []array.RecordReader) error) (err error) {
	if err := cliutil.CheckProgress(*b.progress); err != nil {
		return err
	}
	cliutil.LimitHeap(heap)
	files := make([][]string, len(inputs))
	for i, paths := range inputs {
		files[i], err = formats.ListFiles(paths)
		if err != nil {
			return err
		}
	}
	total, err := b.check(slices.Concat(files...))
	if err != nil {
		return err
	}
	var done atomic.Int64
	bar := progress.Start(b.a.errOut, cliutil.ShowsProgress(*b.progress, b.a.errOut))
	defer bar.Stop()
	bar.Count(total, done.Load)
	rows := make([]array.RecordReader, len(files))
	for i := range files {
		if b.perFile {
			b.files = files[i]
			rows, err = formats.ReadEach(ctx, files[i], b.opener(&done))
		} else {
			rows[i], err = formats.ReadFiles(ctx, files[i], b.opener(&done))
		}
		if err != nil {
			return err
		}
		for _, r := range rows[i:] {
			if r != nil {
				defer r.Release()
			}
		}
	}
	if last := len(rows) - 1; !b.perFile {
		rows[last] = &endNotifier{rows[last], func() {
			bar.Wait("writing the rows", nil)
			if heapAfter > 0 {
				cliutil.LimitHeap(heapAfter)
				debug.FreeOSMemory()
			}
		}}
	}
	err = f(rows)
	bar.Stop()
	if err == nil {
		b.text.report()
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("temporary files are in %s: free some space there, or choose another disk: %w", tempDirs, err)
	}
	return err
}

// opener returns a function that opens a file. Reading the file adds the number of bytes read to done.
func (b *jobFlags) opener(done *atomic.Int64) func(file string) (*formats.Input, error) {
	return func(file string) (*formats.Input, error) {
		in, _, err := b.a.openInput(file, "from", *b.from)
		if err != nil {
			return nil, err
		}
		in.JobMemory = b.memory.Bytes
		in.Count = func(n int) { done.Add(int64(n)) }
		return in, b.text.apply(in)
	}
}

// check returns the total size of the files, or -1 if it is unknown. It fails if a file is missing, so that the user need
// not wait until the files before it have been read.
func (b *jobFlags) check(files []string) (total int64, err error) {
	if err := records.CheckStreams(b.a.in, files...); err != nil {
		return 0, cliutil.Usagef("%w", err)
	}
	sizeUnknown := false
	for _, file := range files {
		if _, err := b.a.inputFormat(file, "from", *b.from); err != nil {
			return 0, err
		}
		if file == "-" {
			sizeUnknown = true
			continue
		}
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(file, "*?[") {
			err = cliutil.Advise(err, "; patterns are not expanded: name a directory or each file")
		}
		if err != nil {
			return 0, err
		}
		sizeUnknown = sizeUnknown || !info.Mode().IsRegular()
		total += info.Size()
	}
	if sizeUnknown {
		total = -1
	}
	return total, nil
}

// endNotifier is a reader that calls onEnd after the last batch.
type endNotifier struct {
	array.RecordReader
	onEnd func()
}

func (u *endNotifier) Next() bool {
	more := u.RecordReader.Next()
	if !more {
		u.onEnd()
	}
	return more
}

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split [flags] [--] FILE…",
		Short: "Split files into one file per key",
		Long: `Split the rows of FILEs by the values in the columns named by --by and write one file for each
combination of values (a key) to the directory named by -o. No table is created. The number of
keys is not limited. Rows with the same key keep their order. Nested columns, metadata, and all
types that the output format supports are kept. All FILEs must have the same columns, in any
order. A directory stands for all files in it and its subdirectories; - is standard input.

Each file is named after its key: the value or, for several columns, the values as a line of CSV.
Bytes other than letters, digits and "-_.() ", and a "." or "_" at the start, are written as %XX.
The file for null is %null, and the file for an empty string is %. If a key is too long for a file
name, the name is %h followed by the key's SHA-256 hash. If the file system ignores case and keys
differ only in case, the first key keeps its name. The names of the others have capital letters as
%XX or, if that name is also taken, are %h and the hash. With --hive, the directory for null is
COLUMN=__HIVE_DEFAULT_PARTITION__.

The directory must be empty or not exist, unless one of these flags is set:
  --append   add to the files of earlier runs, which must have the same columns. With --hive, add
             files named data-2 and so on; otherwise, copy each file to which rows are added
  --replace  replace the files of earlier runs, and remove the files for keys that this run does not
             have (all files, if there are no input rows)
  --force    replace files of the same names. Files of other keys are an error
Only files that split could have written in this format are ever changed.

The files appear only when all of them are complete, and only if they have as many rows as were
read. A run that fails leaves the directory unchanged. If a run is killed while it moves files to
the directory, the next run with this directory first moves the remaining files. It then
continues only with --replace or --force. Otherwise it fails, because it might add the same rows
twice. Temporary files are in $TMPDIR and next to the output; if a run is killed, the next run
removes them.`,
		Example: `  partd-tables split --by sym -o by-symbol trades-*.parquet
  partd-tables split --by year,month --hive -o dataset trades.parquet
  zcat trades.csv.gz | partd-tables split --by sym --from csv --to-format arrow -o by-symbol -`,
	}
	b := newBulkFlags(a, cmd, "write a file for each combination of values in these `COLUMNS`, separated by commas")
	flags := cmd.Flags()
	o := new(bulk.SplitOptions)
	o.UseFormats(a.formats)
	flags.StringVarP(&o.Dir, "output", "o", "", "write the files to this `DIR`")
	flags.BoolVar(&o.Hive, "hive", false, "write DIR/COLUMN=VALUE/data.parquet without the columns named by --by")
	flags.BoolVar(&o.Append, "append", false, "add to the files of earlier runs")
	flags.BoolVar(&o.Replace, "replace", false, "replace the files of earlier runs and remove the files of other keys")
	flags.BoolVar(&o.Force, "force", false, "write to a directory that is not empty and replace files of the same names; files of other keys are an error")
	flags.StringVar(&o.Format, "to-format", "parquet", "write files in this `FORMAT`: "+a.formats.Files().Choice())
	cliutil.Complete(cmd, "to-format", a.formats.Files().Names()...)
	aliasFlag(cmd, "to", "to-format")
	cliutil.Must(cmd.MarkFlagDirname("output"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Dir == "" {
			return cliutil.Usagef("-o is required: name a directory for the files")
		}
		if o.Append && (o.Replace || o.Force) || o.Replace && o.Force {
			return cliutil.Usagef("only one of --append, --replace and --force can be set")
		}
		if _, err := findFormat("to-format", o.Format, a.formats.Files()); err != nil {
			return err
		}
		if o.Append || o.Replace || o.Force {
			if err := output.CheckInputs(o.Dir, args); err != nil {
				return err
			}
		}
		var result bulk.SplitResult
		err := b.run(cmd.Context(), args, b.memory.Bytes, "$TMPDIR and next to the directory named by -o", func(rows []array.RecordReader, by []string) (err error) {
			o.By, o.Memory = by, b.memory.Bytes
			result, err = bulk.Split(cmd.Context(), rows[0], o)
			if result.Finished {
				_, _ = fmt.Fprintln(a.errOut, "an earlier run was stopped while it moved its files; this run has first moved the remaining files")
			}
			return err
		})
		switch {
		case errors.Is(err, bulk.ErrNotEmpty):
			return cliutil.Advise(err, ": to write there anyway, use --append to add to the files of earlier runs, --replace to replace all of them, or --force if it has no files of other keys")
		case errors.Is(err, bulk.ErrOtherKeys):
			return cliutil.Advise(err, ": use --append to add to the files of earlier runs, or --replace to remove the files that this run does not write")
		case err != nil:
			return err
		}
		return a.printResult(*b.json, result, "%s read and written, %s\n", count(result.Rows, "row"), count(result.Files, "file"))
	}
	return cmd
}

func newSort(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sort [flags] [--] FILE…",
		Short: "Sort the rows of files",
		Long: `Sort the rows of FILEs by the columns named by --by and write them to standard output or to the
file named by -o. No table is created. --to-format sets the output format; by default, it is the
format of the file's extension or, for a pipe, CSV. A file appears only when it is complete.

Null comes before all values, NaN before all numbers, and text is ordered by its bytes. Rows with
equal values keep their order. Nested columns, metadata, and all types that the output format
supports are kept. All FILEs must have the same columns, in any order. A directory stands for all
files in it and its subdirectories; - is standard input. Rows that do not fit in memory go to
temporary files in $TMPDIR.

--merge merges FILEs that are already sorted by these columns, without temporary files. For a row in
the wrong place, the command fails and names the file and the row. All files are open at the same
time. With more files than memory allows (about 5 per 64 MiB of --memory), groups of them are first
merged to temporary files.`,
		Example: `  partd-tables sort --by sym,time -o sorted.parquet trades-*.parquet
  partd-tables sort --by price --to-format csv trades.parquet | head
  partd-tables sort --by sym --distinct -o symbols.parquet trades-*.parquet
  partd-tables sort --by time --merge -o week.parquet monday.parquet tuesday.parquet`,
	}
	b := newBulkFlags(a, cmd, "sort by these `COLUMNS`, separated by commas, the most significant first")
	distinct := cmd.Flags().Bool("distinct", false, "write only the first of several rows with equal values in the columns named by --by")
	cmd.Flags().BoolVar(&b.perFile, "merge", false, "merge FILEs that are already sorted, without sorting them again")
	out := outputFlags(a, cmd, "to-format")
	aliasFlag(cmd, "format", "to-format")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.chooseFormat(); err != nil {
			return err
		}
		if *b.json && out.file == "" {
			return cliutil.Usagef("--json needs -o: standard output has the rows; to write them as JSON, use --to-format jsonl")
		}
		var read, written batches.Counted
		heap := b.memory.Bytes/2 + 32<<20 // the sorted rows are outside the heap
		err := b.run(cmd.Context(), args, heap, "$TMPDIR, and the output is the file named by -o", func(rows []array.RecordReader, by []string) (err error) {
			o := &bulk.SortOptions{By: by, Memory: b.memory.Bytes, Distinct: *distinct}
			if b.perFile {
				inputs := make([]bulk.MergeInput, len(rows))
				for i := range rows {
					inputs[i] = bulk.MergeInput{Name: b.files[i], Rows: &batches.Counted{RecordReader: rows[i]}}
				}
				written.RecordReader, err = bulk.Merge(cmd.Context(), inputs, o)
				err = out.write(cmd.Context(), &written, err)
				for _, in := range inputs {
					read.Rows += in.Rows.(*batches.Counted).Rows
				}
				return err
			}
			read.RecordReader = rows[0]
			written.RecordReader, err = bulk.Sort(cmd.Context(), &read, o)
			return out.write(cmd.Context(), &written, err)
		})
		switch {
		case errors.Is(err, bulk.ErrNotSorted):
			return fmt.Errorf("%w; to sort it, leave out --merge", err)
		case err != nil || out.file == "":
			return err
		}
		result := map[string]int64{"rows_read": read.Rows, "rows_written": written.Rows}
		return a.printResult(*b.json, result, "%d rows read, %d written\n", read.Rows, written.Rows)
	}
	return cmd
}
