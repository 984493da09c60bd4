package cli

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/formats"
	"github.com/go-partd/partd/tables/internal/operations"
)

// rewriteLine is what --json writes of a change of rows.
type rewriteLine struct {
	Table   string         `json:"table"`
	Bucket  string         `json:"bucket"`
	Version tables.Version `json:"version"`
	Deleted int64          `json:"deleted"`
	Written int64          `json:"written"`
	Files   int            `json:"files"`
}

// rewritten shows what became of a table's rows.
func (a *app) rewritten(p place, asJSON bool, name string, r tables.Rewritten) error {
	if asJSON {
		return encoder(a.out).Encode(rewriteLine{name, *p.bucket, r.Version, r.Deleted, r.Written, r.Files})
	}
	_, err := fmt.Fprintf(a.err, "%s: %d rows deleted, %d written, version %d\n", shown(name), r.Deleted, r.Written, r.Version)
	return err
}

// rewritesFrom changes a table by the rows of a file, whose columns have the types of the
// table.
func (a *app) rewritesFrom(ctx context.Context, p place, asJSON bool, name, file, format string, do func(backend, array.RecordReader) (tables.Rewritten, error)) error {
	in, _, err := a.input(file, formats.Format(format))
	if err != nil {
		return err
	}
	defer in.File.Close() //nolint:errcheck // it was only read
	return p.with(ctx, false, func(s backend) (err error) {
		if _, in.Known, err = s.Describe(ctx, *p.bucket, name, nil); err != nil {
			return err
		}
		r, err := in.Read(ctx)
		if err != nil {
			return err
		}
		defer r.Release()
		done, err := do(s, r)
		if err != nil {
			return err
		}
		return a.rewritten(p, asJSON, name, done)
	})
}

func newDeleteRows(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete-rows [flags] [--] NAME",
		Short: "Delete rows of a table",
		Long: `Delete the rows for which --where is true, in one new version of the table. Rows for
which it is false or null stay. Older versions keep the rows until they expire.

--where is as in get.`,
		Example: `  partd-tables delete-rows trades --where "price <= 0 or sym = 'TEST'"`,
	}
	p := placeFlags(cmd, theBucket)
	where := cmd.Flags().String("where", "", "delete rows for which this `EXPRESSION` is true")
	asJSON := cmd.Flags().Bool("json", false, "write the result as a JSON object")
	return does(cmd, p, operations.DeleteRows, func(args []string) (*operations.Deletion, error) {
		if *where == "" {
			return nil, cliutil.Usagef("--where is required")
		}
		cond, err := filter.Parse(*where)
		if err != nil {
			return nil, cliutil.Usagef("--where: %w", err)
		}
		return &operations.Deletion{Bucket: *p.bucket, Name: args[0], Where: cond.String()}, nil
	}, func(in *operations.Deletion, done tables.Rewritten) error {
		return a.rewritten(p, *asJSON, in.Name, done)
	})
}

func newReplaceRange(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replace-range [flags] [--] NAME FILE",
		Short: "Replace the rows in a range of time",
		Long: `Replace the rows from --from up to, but not at, --to with those of a file, in one new
version of the table. If a row of the file is outside the range, it is an error and nothing
changes. FILE is as in put. Times without an offset are UTC.`,
		Example: `  partd-tables replace-range trades corrected.csv --from 2026-01-05 --to 2026-01-06`,
	}
	p := placeFlags(cmd, theBucket)
	fs := cmd.Flags()
	between := rangeFlags(cmd, "the `TIME` at which the range begins; without it, all before --to", "the `TIME` before which the range ends; without it, all after --from")
	column := fs.String("time-column", "", "the `COLUMN` with the time (default: that of the table's settings, or the first with times)")
	format := formatFlag(cmd)
	asJSON := fs.Bool("json", false, "write the result as a JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, to, err := between()
		if err != nil {
			return err
		}
		if from.IsZero() && to.IsZero() {
			return cliutil.Usagef("--from, --to or both are required")
		}
		return a.rewritesFrom(cmd.Context(), p, *asJSON, args[0], args[1], *format, func(s backend, r array.RecordReader) (tables.Rewritten, error) {
			return s.ReplaceRange(cmd.Context(), *p.bucket, args[0], from, to, r, &tables.RangeOptions{TimeColumn: *column})
		})
	}
	return cmd
}

func newUpsert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upsert [flags] [--] NAME FILE",
		Short: "Replace the rows with equal keys, and add the others",
		Long: `For each row of a file, replace the table's rows that equal it in the key columns, or add
it if there are none, in one new version of the table. A key that occurs twice in the file
is an error. FILE is as in put.`,
		Example: `  partd-tables upsert trades corrected.csv --key time,sym`,
	}
	p := placeFlags(cmd, theBucket)
	fs := cmd.Flags()
	key := fs.String("key", "", "the key `COLUMNS`, separated by commas (default: the time and the keys of the table's settings)")
	format := formatFlag(cmd)
	asJSON := fs.Bool("json", false, "write the result as a JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := columnNames("key", *key)
		if err != nil {
			return err
		}
		return a.rewritesFrom(cmd.Context(), p, *asJSON, args[0], args[1], *format, func(s backend, r array.RecordReader) (tables.Rewritten, error) {
			return s.Upsert(cmd.Context(), *p.bucket, args[0], r, &tables.UpsertOptions{Keys: keys})
		})
	}
	return cmd
}

func newPartition(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partition [flags] [--] NAME",
		Short: "Cut a table's files by periods of time",
		Long: `Cut a table's files by periods of its time column, now and from now on, in one new
version. With auto the periods follow the data: months if the rows span less than
a year, quarters if less than three, otherwise years. The command
says what it chose, and why. Without --by it applies the current setting.`,
		Example: "  partd-tables partition trades --by month\n  partd-tables partition trades --by auto --json",
	}
	p := placeFlags(cmd, theBucket)
	by := cmd.Flags().String("by", "", "the `PERIOD`: auto, day, month, quarter, year or none")
	asJSON := cmd.Flags().Bool("json", false, "write the result as a JSON object")
	cliutil.Complete(cmd, "by", "auto", "day", "month", "quarter", "year", "none")
	return does(cmd, p, operations.Partition, func(args []string) (*operations.Periods, error) {
		return &operations.Periods{Bucket: *p.bucket, Name: args[0], By: tables.Partition(*by)}, nil
	}, func(in *operations.Periods, done tables.Partitioned) error {
		if *asJSON {
			return encoder(a.out).Encode(done)
		}
		_, err := fmt.Fprintf(a.err, "%s: by %s, since %s; %d files instead of %d, version %d\n",
			shown(in.Name), done.Partition, done.Why, done.FilesAfter, done.FilesBefore, done.Version)
		return err
	})
}
