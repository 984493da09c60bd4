package cli

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

type rewriteOutput struct {
	Table  string `json:"table"`
	Bucket string `json:"bucket"`
	tables.RewriteResult
}

func (a *app) printRewrite(loc location, asJSON bool, name string, r tables.RewriteResult) error {
	r.TimeColumn = "" // only for callers of the API; omitted from the command's JSON
	return a.printResult(asJSON, rewriteOutput{name, *loc.bucket, r}, "%s: %d rows deleted, %d written, version %d\n",
		displayName(name), r.Deleted, r.Written, r.Version)
}

// rewriteFrom reads a file's rows, using the table's column types, passes them to change and prints the result.
func (a *app) rewriteFrom(ctx context.Context, p location, asJSON bool, name, file, format string, change func(backend, array.RecordReader) (tables.RewriteResult, error)) error {
	input, _, err := a.openInput(file, "format", format)
	if err != nil {
		return err
	}
	defer input.File.Close() //nolint:errcheck // the file was only read
	return p.withBackend(ctx, false, func(s backend) (err error) {
		_, input.Known, err = s.Describe(ctx, *p.bucket, name, nil)
		if err != nil {
			return err
		}
		r, err := input.Read(ctx)
		if err != nil {
			return err
		}
		defer r.Release()
		rewritten, err := change(s, r)
		if err != nil {
			return err
		}
		return a.printRewrite(p, asJSON, name, rewritten)
	})
}

func newDeleteRows(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete-rows [flags] [--] NAME",
		Short: "Delete rows from a table",
		Long: `Delete the rows for which --where is true, in a single commit. Rows for
which it is false or null are kept. Older versions keep the deleted rows until
those versions expire.

For the EXPRESSION of --where, see "partd-tables get --help".`,
		Example: `  partd-tables delete-rows trades --where "price <= 0 or sym = 'TEST'"`,
	}
	p := locationFlags(cmd, tableBucketUsage)
	where := cmd.Flags().String("where", "", "delete rows for which this `EXPRESSION` is true")
	asJSON := cmd.Flags().Bool("json", false, "write the result as a JSON object")
	return operationCommand(cmd, p, operations.DeleteRows, func(args []string) (*operations.Deletion, error) {
		if *where == "" {
			return nil, cliutil.Usagef("--where is required")
		}
		cond, err := parseWhere(*where)
		if err != nil {
			return nil, err
		}
		return &operations.Deletion{Bucket: *p.bucket, Name: args[0], Where: cond.String()}, nil
	}, func(deletion *operations.Deletion, rewritten tables.RewriteResult) error {
		return a.printRewrite(p, *asJSON, deletion.Name, rewritten)
	})
}

func newReplaceRange(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replace-range [flags] [--] NAME FILE",
		Short: "Replace the rows in a time range",
		Long: `Replace a table's rows in a range of times with the rows of a file, in a single commit. The range
starts at the time given by --from and ends before the time given by --to. If a row of the file
is outside the range, the command fails and changes nothing. Times without an offset are UTC.

For the formats of FILE, see "partd-tables put --help".`,
		Example: `  partd-tables replace-range trades corrected.csv --from 2026-01-05 --to 2026-01-06`,
	}
	p := locationFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	parseRange := rangeFlags(cmd, "the `TIME` at which the range begins (default: the first row)", "the `TIME` before which the range ends (default: after the last row)")
	column := fs.String("time-column", "", "the time `COLUMN` (default: from the table's settings, or the first column with times)")
	format := a.formatFlag(cmd, "format")
	asJSON := fs.Bool("json", false, "write the result as a JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, to, err := parseRange()
		if err != nil {
			return err
		}
		if from.IsZero() && to.IsZero() {
			return cliutil.Usagef("the range is missing: set --from, --to or both")
		}
		return a.rewriteFrom(cmd.Context(), p, *asJSON, args[0], args[1], *format, func(s backend, r array.RecordReader) (tables.RewriteResult, error) {
			return s.ReplaceRange(cmd.Context(), *p.bucket, args[0], from, to, r, &tables.RangeOptions{TimeColumn: *column})
		})
	}
	return cmd
}

func newUpsert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upsert [flags] [--] NAME FILE",
		Short: "Replace rows that have the same keys and add new rows",
		Long: `Put the rows of a file into a table, in a single commit. A row replaces the table's rows that have
the same values in the key columns. If there are none, the row is added. A key that occurs twice in
the file is an error.

For the formats of FILE, see "partd-tables put --help".`,
		Example: `  partd-tables upsert trades corrected.csv --key time,sym`,
	}
	p := locationFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	key := fs.String("key", "", "the key `COLUMNS`, separated by commas (default: the time and key columns in the table's settings)")
	format := a.formatFlag(cmd, "format")
	asJSON := fs.Bool("json", false, "write the result as a JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := columnNames("key", *key)
		if err != nil {
			return err
		}
		return a.rewriteFrom(cmd.Context(), p, *asJSON, args[0], args[1], *format, func(s backend, r array.RecordReader) (tables.RewriteResult, error) {
			return s.Upsert(cmd.Context(), *p.bucket, args[0], r, &tables.UpsertOptions{Keys: keys})
		})
	}
	return cmd
}

func newPartition(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partition [flags] [--] NAME",
		Short: "Divide a table's files by time periods",
		Long: `Divide a table's files by periods of its time column, in a single commit. Later puts use the same
periods. With --by auto, the periods depend on the data: months if the rows span less than a year,
quarters if they span less than three years, otherwise years. The command prints the periods and the
reason for them. Without --by, the files are divided again by the table's current setting.`,
		Example: "  partd-tables partition trades --by month\n  partd-tables partition trades --by auto --json",
	}
	p := locationFlags(cmd, tableBucketUsage)
	period := cmd.Flags().String("by", "", "the `PERIOD`: auto, day, month, quarter, year or none")
	asJSON := cmd.Flags().Bool("json", false, "write the result as a JSON object")
	cliutil.Complete(cmd, "by", "auto", "day", "month", "quarter", "year", "none")
	return operationCommand(cmd, p, operations.Partition, func(args []string) (*operations.Periods, error) {
		return &operations.Periods{Bucket: *p.bucket, Name: args[0], By: tables.Partition(*period)}, nil
	}, func(periods *operations.Periods, partitioned tables.PartitionResult) error {
		return a.printResult(*asJSON, partitioned, "%s: by %s, because %s; %d files instead of %d, version %d\n",
			displayName(periods.Name), partitioned.Partition, partitioned.Why, partitioned.FilesAfter, partitioned.FilesBefore, partitioned.Version)
	})
}
