package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables/bulk"
	"github.com/go-partd/partd/tables/internal/faces/formats"
)

// bulkFlags are the flags of commands that read files without a table.
type bulkFlags struct {
	a        *app
	by       *string
	from     *string
	memory   cliutil.Size
	progress *string
}

func newBulkFlags(a *app, cmd *cobra.Command, by string) *bulkFlags {
	f := &bulkFlags{a: a, memory: cliutil.Size{Bytes: bulk.DefaultMemory, Min: 64 << 20}}
	f.by = cmd.Flags().String("by", "", by)
	f.from = cmd.Flags().String("from", "", "`FORMAT` of the FILEs: csv, tsv, jsonl, parquet or arrow (default: from their names)")
	cmd.Flags().Var(&f.memory, "memory", "use about this `SIZE` of memory; more data goes to temporary files")
	f.progress = cliutil.ProgressFlag(cmd)
	cliutil.Complete(cmd, "from", formats.Names...)
	cmd.Args = cliutil.CheckArgCount(1, -1, "one or more FILEs, or - for the standard input")
	return f
}

// run calls f with the rows of files and the columns --by, and shows the progress.
func (b *bulkFlags) run(ctx context.Context, files []string, f func(r array.RecordReader, by []string) error) error {
	if *b.by == "" {
		return cliutil.Usagef("--by is required: name the columns")
	}
	by, err := columnNames("by", *b.by)
	if err = errors.Join(err, cliutil.CheckProgress(*b.progress)); err != nil {
		return err
	}
	total := int64(0)
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && total >= 0 && info.Mode().IsRegular() {
			total += info.Size()
		} else {
			total = -1
		}
	}
	var done atomic.Int64
	bar := progress.Start(b.a.err, cliutil.ShowsProgress(*b.progress, b.a.err))
	defer bar.Stop()
	bar.Count(total, done.Load)
	r, err := formats.ReadFiles(ctx, files, func(file string) (*formats.Input, error) {
		in, _, err := b.a.openInput(file, formats.Format(*b.from))
		if err == nil {
			in.Count = func(n int) { done.Add(int64(n)) }
		}
		return in, err
	})
	if err != nil {
		return err
	}
	defer r.Release()
	err = f(r, by)
	bar.Stop()
	return err
}

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split [flags] [--] FILE…",
		Short: "Write the rows of files to a file for each key",
		Long: `Write the rows of files to a file for each combination of values in the columns --by, in the
directory -o, without a table. The number of keys is not limited. The types of the columns are
kept, and so is the order of the rows of a key. All FILEs must have the same columns.

A file's name is the value. Each byte that is not a letter, digit or one of "-_.() " is written
as %XX. For several columns it is a line of CSV. Null goes to the file %null, an empty text to
the file %, and a value too long for a name is named %h and its SHA-256.

The files appear only when all are complete, and their rows are counted and compared with those
read; a run that fails leaves the directory unchanged. Temporary files are in $TMPDIR.`,
		Example: `  partd-tables split --by sym -o by-symbol trades-*.parquet
  partd-tables split --by year,month --hive -o dataset trades.parquet
  zcat trades.csv.gz | partd-tables split --by sym --from csv --to arrow -o by-symbol -`,
	}
	b := newBulkFlags(a, cmd, "write a file for each combination of values in these `COLUMNS`, separated by commas")
	fs := cmd.Flags()
	o := &bulk.SplitOptions{}
	fs.StringVarP(&o.Dir, "output", "o", "", "write the files to this `DIR`")
	fs.BoolVar(&o.Hive, "hive", false, "write DIR/COLUMN=VALUE/data.parquet, without the columns --by")
	fs.BoolVar(&o.Force, "force", false, "write to a directory that is not empty, and replace files of the same names")
	fs.StringVar(&o.Format, "to", "parquet", "`FORMAT` of the files to write: parquet, arrow, csv or jsonl")
	asJSON := fs.Bool("json", false, "write the numbers of rows and files as JSON")
	cliutil.Complete(cmd, "to", "parquet", "arrow", "csv", "jsonl")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Dir == "" {
			return cliutil.Usagef("-o is required: name a directory for the files")
		}
		if err := checkFormat(formats.Format(o.Format), true); err != nil || o.Format == string(formats.Table) {
			return cliutil.Usagef("--to %q: use parquet, arrow, csv or jsonl", o.Format)
		}
		var result bulk.SplitResult
		err := b.run(cmd.Context(), args, func(r array.RecordReader, by []string) (err error) {
			o.By, o.Memory = by, b.memory.Bytes
			result, err = bulk.Split(cmd.Context(), r, o)
			return err
		})
		switch {
		case errors.Is(err, bulk.ErrNotEmpty):
			return fmt.Errorf("%w: to write there anyway, use --force", err)
		case err != nil:
			return err
		case *asJSON:
			return json.NewEncoder(a.out).Encode(result)
		}
		_, err = fmt.Fprintf(a.err, "%d rows read and written, %d files\n", result.Rows, result.Files)
		return err
	}
	return cmd
}

func newSort(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sort [flags] [--] FILE…",
		Short: "Write the rows of files in the order of columns",
		Long: `Write the rows of files in the order of the columns --by, without a table: to a pipe as CSV, to
a file in the format of --format or of the file's extension. The types of the columns are kept,
and so is the order of rows with equal values. Null comes before all values, NaN before all
numbers, and text is ordered by its bytes. All FILEs must have the same columns. Rows that do
not fit in memory go to temporary files in $TMPDIR.`,
		Example: `  partd-tables sort --by sym,time -o sorted.parquet trades-*.parquet
  partd-tables sort --by price --format csv trades.parquet | head`,
	}
	b := newBulkFlags(a, cmd, "sort by these `COLUMNS`, separated by commas, the most significant first")
	out := outputFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.chooseFormat(); err != nil {
			return err
		}
		// The sorted rows are outside the heap. Without a limit, garbage could double the heap.
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(b.memory.Bytes/2 + 64<<20))
		return b.run(cmd.Context(), args, func(r array.RecordReader, by []string) error {
			sorted, err := bulk.Sort(cmd.Context(), r, &bulk.SortOptions{By: by, Memory: b.memory.Bytes})
			return out.write(cmd.Context(), sorted, err)
		})
	}
	return cmd
}
