package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
)

func newSQL(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sql [flags] [--] 'SELECT …'",
		Short: "Write the result of a query",
		Long: `Write the result of a query, one SELECT in DuckDB's SQL: to a terminal as aligned columns,
to a pipe as CSV, to a file in the format of its name or of --format. A file appears whole or
not at all.

Tables named without a bucket are in --bucket; name others "bucket"."table". A query
reads tables and nothing else: no files, no settings.`,
		Example: `  partd-tables sql "SELECT sym, avg(price) FROM trades GROUP BY sym" --bucket NYSE
  partd-tables sql 'SELECT * FROM "NYSE".trades JOIN names USING (sym)' -o joined.parquet
  partd-tables sql "SELECT count(*) FROM trades" --version 3`,
		Args: cliutil.Takes(1, 1, "SELECT"),
	}
	p := placeFlags(cmd, "the `BUCKET` of tables without one; without it, the default one")
	at := stateFlags(cmd)
	out := resultFlags(a, cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.choose(); err != nil {
			return err
		}
		o := &tables.QueryOptions{Bucket: *p.bucket, At: at()}
		ctx := cmd.Context()
		return p.withSQL(ctx, func(s backend) error {
			r, err := s.Query(ctx, args[0], o)
			return out.write(ctx, r, err)
		})
	}
	return cmd
}
