package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/formats"
)

func newSQL(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sql [flags] [--] 'SELECT …'",
		Short: "Write the result of a query",
		Long: `Write the result of a query, one SELECT in DuckDB's SQL: to a terminal as lines
below each other, into a pipe as CSV, into a file as its name says, or as --format
says. A file is there whole or not at all.

Tables without a bucket are those of --bucket; others are "bucket"."table". A query
reads tables, and nothing else: no files, no settings.`,
		Example: `  partd-tables sql "SELECT sym, avg(price) FROM trades GROUP BY sym" --bucket NYSE
  partd-tables sql 'SELECT * FROM "NYSE".trades JOIN names USING (sym)' -o joined.parquet
  partd-tables sql "SELECT count(*) FROM trades" --version 3`,
		Args: cliutil.Takes(1, 1, "SELECT"),
	}
	p := placeFlags(cmd, "the `BUCKET` of tables without one; without it, the default one")
	fs := cmd.Flags()
	at := stateFlags(cmd)
	format := fs.String("format", "", "`FORMAT` to write: table, csv, jsonl, parquet or arrow")
	file := fs.StringP("output", "o", "", "the `FILE` to write")
	force := fs.Bool("force", false, "replace a file that is there")
	cliutil.Complete(cmd, "format", append([]string{"table"}, formats.Names...)...)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		as, err := a.outputFormat(*format, *file)
		if err != nil {
			return err
		}
		o := &tables.QueryOptions{Bucket: *p.bucket, At: at()}
		ctx := cmd.Context()
		return p.withSQL(ctx, func(s backend) error {
			r, err := s.Query(ctx, args[0], o)
			if err != nil {
				return err
			}
			defer r.Release()
			return a.writeResult(ctx, r, as, *file, *force)
		})
	}
	return cmd
}
