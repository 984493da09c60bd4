package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

const putHelp = `Put the rows of a file into a table: all rows or, on an error, none.

FILE is %s, according to its extension or --format. A
JSON array is read as jsonl, and - is standard input. Text compressed with gzip, zstd, bzip2 or
lz4 is detected. With --mode append, CSV and JSON lines are read with the table's column types.
Otherwise, the type of each column is inferred from all its values.

--mode append creates a missing table; --mode replace replaces the table's rows and columns. A
second put with the same --id changes nothing, so it is safe to retry a put with an ID.

--time, --key, --on-duplicate and --compression are settings for a table that put creates or
replaces. To change the settings of an existing table, use "partd-tables settings".`

func newPut(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put [flags] [--] NAME FILE",
		Short: "Put the rows of a file into a table",
		Long:  fmt.Sprintf(putHelp, a.formats.Readable().Choice()),
		Example: `  partd-tables put birdstrikes birdstrikes.csv
  partd-tables put AAPL trades.parquet --bucket NASDAQ --mode append --id 2026-01-31
  zcat rows.jsonl.gz | partd-tables put rows - --format jsonl --mode replace`,
	}
	p := locationFlags(cmd, tableBucketUsage)
	mode := modeFlag(cmd, "the table", "error")
	id := cmd.Flags().String("id", "", "`ID` of this put: a second put with the same ID changes nothing")
	settings := settingsFlags(cmd)
	format := a.formatFlag(cmd, "format")
	text := newTextFlags(a, cmd)
	progressMode := cliutil.ProgressFlag(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return p.completeTables(cmd, args, prefix)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		putMode, err := mode()
		err = errors.Join(err, cliutil.CheckProgress(*progressMode))
		if err != nil {
			return err
		}
		in, total, err := a.openInput(args[1], "format", *format)
		if err != nil {
			return err
		}
		defer in.File.Close() //nolint:errcheck // the file was only read
		if err := text.apply(in); err != nil {
			return err
		}
		var bytesRead atomic.Int64
		in.Count = func(n int) { bytesRead.Add(int64(n)) }
		bar := progress.Start(a.errOut, cliutil.ShowsProgress(*progressMode, a.errOut))
		defer bar.Stop()
		bar.Count(total, bytesRead.Load)
		ctx := cmd.Context()
		return p.withBackend(ctx, true, func(s backend) (err error) {
			if putMode == tables.PutAppend {
				_, in.Known, err = s.Describe(ctx, *p.bucket, args[0], nil)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			r, err := in.Read(ctx)
			if err != nil {
				return err
			}
			defer r.Release()
			if in.Format.HasHeader() {
				a.noteDataInHeader(in.Name, r.Schema())
			}
			counted := &batches.Counted{RecordReader: r}
			o := &tables.PutOptions{ID: *id}
			if newSettings, names := settings(); names != nil {
				o.Settings = &newSettings
			}
			v, err := s.Put(ctx, *p.bucket, args[0], counted, putMode, o)
			if err != nil {
				return err
			}
			bar.Stop()
			text.report()
			return a.report("%s: %d rows put, version %d\n", displayName(args[0]), counted.Rows, v)
		})
	}
	return cmd
}
