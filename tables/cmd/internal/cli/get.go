package cli

import (
	"cmp"
	"context"
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

func newGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [flags] [--] NAME",
		Short: "Write the rows of a table",
		Long: `Write the rows of a table: to a terminal as aligned columns, to a pipe as CSV, and to a file in
the format of its extension, unless --format names one. A file appears only when it is complete.

--where consists of comparisons (= != < <= > >= in, not in, is null, is not null), combined
with and, or, not and parentheses. Put text, dates and times in single quotes, and column
names that are not plain words in double quotes. If a column has a time zone, a time that does
not end with an offset (+01:00, Z) is taken to be in that zone.`,
		Example: `  partd-tables get trades --where "price > 100 and sym in ('A','B')" --columns time,price
  partd-tables get trades --version 3 --limit 1000 -o trades.parquet
  partd-tables get birdstrikes --where "\"Flight Date\" >= '2002-01-01'" --format jsonl`,
	}
	p := readFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	where := fs.String("where", "", "write only rows for which this `EXPRESSION` is true")
	columns := fs.String("columns", "", "write only these `COLUMNS`, separated by commas")
	limit := fs.Int64("limit", 0, "write at most `N` rows; 0 means all")
	null := fs.String("null", "", "in csv, write nulls as this `TEXT`, such as NA, and values with this text in quotes")
	readAt := stateFlags(cmd)
	out := outputFlags(a, cmd, "format")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o := &tables.ScanOptions{Limit: *limit}
		if *limit < 0 {
			return cliutil.Usagef("--limit is %d: it must not be negative", *limit)
		}
		var err error
		o.Filter, err = parseWhere(*where)
		if err != nil {
			return err
		}
		if err := (&records.Values{Nulls: []string{*null}}).Check(","); err != nil {
			return cliutil.Usagef("%w", err)
		}
		out.null, out.ignoresNull = *null, cliutil.IsFromVariable(fs.Lookup("null"))
		return out.scan(cmd.Context(), p, args[0], readAt(), *columns, o)
	}
	return cmd
}

// newHeadOrTail returns cmd with its flags and RunE. options returns the scan options that select n rows.
func newHeadOrTail(a *app, cmd *cobra.Command, options func(n int64) *tables.ScanOptions) *cobra.Command {
	p := readFlags(cmd, tableBucketUsage)
	n := cmd.Flags().Int64P("rows", "n", 10, "number of `ROWS` to write")
	columns := cmd.Flags().String("columns", "", "write only these `COLUMNS`, separated by commas")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each row")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *n < 1 {
			return cliutil.Usagef("--rows is %d: it must be at least 1", *n)
		}
		out := &rowOutput{a: a}
		if *asJSON {
			out.format = "jsonl"
		}
		return out.scan(cmd.Context(), p, args[0], nil, *columns, options(*n))
	}
	return cmd
}

func newHead(a *app) *cobra.Command {
	return newHeadOrTail(a, &cobra.Command{
		Use:     "head [flags] [--] NAME",
		Short:   "Write the first rows of a table",
		Long:    `Write the first rows of a table. In a table with a time column, these are the earliest rows.`,
		Example: "  partd-tables head trades -n 3",
	}, func(n int64) *tables.ScanOptions { return &tables.ScanOptions{Limit: n} })
}

func newTail(a *app) *cobra.Command {
	return newHeadOrTail(a, &cobra.Command{
		Use:   "tail [flags] [--] NAME",
		Short: "Write the last rows of a table",
		Long: `Write the last rows of a table, oldest first. In a table with a time column, these are the latest
rows.`,
		Example: "  partd-tables tail trades -n 1 --json",
	}, func(n int64) *tables.ScanOptions { return &tables.ScanOptions{Last: n} })
}

func newConvert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert [flags] [--] FILE",
		Short: "Write the rows of a file in another format",
		Long: `Write the rows of a file in another format: to a terminal as aligned columns, to a pipe as CSV, and
to a file in the format of its extension, unless --to-format names one. No table is created.

In CSV and JSON lines files, a column's type is inferred from all of its values, unless the Arrow
file named by --like has a column of the same name. For the formats of FILE, see "partd-tables put
--help"; for the EXPRESSION of --where, see "partd-tables get --help".`,
		Example: `  partd-tables convert birdstrikes.csv -o birdstrikes.parquet
  partd-tables convert more.csv --like birdstrikes.arrow -o more.parquet
  partd-tables convert trades.parquet --where "price > 100" --columns time,price`,
	}
	from := a.formatFlag(cmd, "from")
	typesFile := cmd.Flags().String("like", "", "take the column types for CSV and JSON lines from this Arrow `FILE`")
	text := newTextFlags(a, cmd)
	where := cmd.Flags().String("where", "", "write only rows for which this `EXPRESSION` is true")
	columns := cmd.Flags().String("columns", "", "write only these `COLUMNS`, separated by commas")
	out := outputFlags(a, cmd, "to-format")
	aliasFlag(cmd, "format", "to-format")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := parseWhere(*where)
		names, columnsErr := columnNames("columns", *columns)
		err = errors.Join(err, columnsErr, out.chooseFormat())
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		input, _, err := a.openInput(args[0], "from", *from)
		if err != nil {
			return err
		}
		defer input.File.Close() //nolint:errcheck // the file was only read
		if err := text.apply(input); err != nil {
			return err
		}
		if *typesFile != "" {
			typesInput, _, err := a.openInput(*typesFile, "like", "arrow")
			if err != nil {
				return err
			}
			defer typesInput.File.Close() //nolint:errcheck // the file was only read
			r, err := typesInput.Read(ctx)
			if err != nil {
				return err
			}
			defer r.Release()
			input.Known = r.Schema()
		}
		r, err := input.Read(ctx)
		if err == nil && (e != nil || names != nil) {
			r, err = selectRows(ctx, r, e, names)
		}
		err = out.write(ctx, r, err)
		if err == nil {
			text.report()
		}
		return err
	}
	return cmd
}

// selectRows returns a reader of r's rows for which e is true, with the columns in names, or with all columns if names
// is nil. The reader releases r; if selectRows fails, it releases r itself.
func selectRows(ctx context.Context, r array.RecordReader, e *filter.Expr, names []string) (array.RecordReader, error) {
	all, metadata := r.Schema(), r.Schema().Metadata()
	_, err := e.Bind(all)
	var fields []arrow.Field
	for _, name := range names {
		index, indexErr := schema.ColumnIndex(all, name)
		err = cmp.Or(err, indexErr)
		if err == nil {
			fields = append(fields, all.Field(index))
		}
	}
	to := all
	if names != nil {
		to = arrow.NewSchema(fields, &metadata)
	}
	if err != nil {
		r.Release()
		return nil, err
	}
	return batches.Reader(to, batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		rows, err := e.Filter(ctx, b)
		if err != nil || names == nil {
			return rows, err
		}
		defer rows.Release()
		return schema.Project(rows, to), nil
	}), r.Release), nil
}
