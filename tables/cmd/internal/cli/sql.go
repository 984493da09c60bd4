package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

func newSQL(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sql [flags] [--] STATEMENT",
		Short: "Run an SQL statement",
		Long: `Run a single SQL statement in DuckDB's dialect. The result of a SELECT is written to a terminal as
aligned columns, to a pipe as CSV, and to a file in the format of its extension, unless --format
names one. A file appears only when it is complete.

INSERT, UPDATE, DELETE, MERGE, TRUNCATE, CREATE TABLE, ALTER TABLE and DROP TABLE change a table
in one commit and print how many rows they changed. If a statement with the same --id was already
applied, it changes nothing and prints the same number. ALTER and DROP ignore --id: a repeated
DROP fails, for example.

Table names without a bucket refer to the bucket given by --bucket. To name a table in another
bucket, write "bucket"."table". A statement can use only tables, not files or settings.

With --since or --since-snapshot, a SELECT can compare with an earlier state:
before."bucket"."table" is a table in that state; changes."bucket"."table" has the rows that
changed since then, in the form that "partd-tables changes" writes.`,
		Example: `  partd-tables sql "SELECT sym, avg(price) FROM trades GROUP BY sym" --bucket NYSE
  partd-tables sql 'SELECT * FROM "NYSE".trades JOIN names USING (sym)' -o joined.parquet
  partd-tables sql "SELECT count(*) FROM trades" --version 3
  partd-tables sql "UPDATE trades SET price = price / 100 WHERE sym = 'A'" --id split-of-A`,
		Args: cliutil.CheckArgCount(1, 1, "STATEMENT"),
	}
	p := readFlags(cmd, "`BUCKET` for table names without one (default: the default bucket)")
	at := stateFlags(cmd)
	since := sinceFlags(cmd, "the tables changes.\"BUCKET\".\"TABLE\" and before.\"BUCKET\".\"TABLE\"")
	out := outputFlags(a, cmd, "format")
	id := cmd.Flags().String("id", "", "`ID` of a statement that changes a table; repeating the statement with this ID changes nothing")
	asJSON := cmd.Flags().Bool("json", false, "write the result of a statement that changes a table as a JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		isWrite := tables.IsWrite(args[0])
		if err := checkSQLFlags(cmd, isWrite); err != nil {
			return err
		}
		if isWrite {
			return p.withSQL(cmd.Context(), true, func(s backend) error {
				result, err := operations.Exec.Do(cmd.Context(), s.Target, &operations.Statement{Bucket: *p.bucket, SQL: args[0], ID: *id})
				if err != nil {
					return err
				}
				return a.printExec(*asJSON, result)
			})
		}
		if err := out.chooseFormat(); err != nil {
			return err
		}
		before, err := since()
		if err != nil {
			return err
		}
		o := &tables.QueryOptions{Bucket: *p.bucket, At: at(), Before: before}
		ctx := cmd.Context()
		return p.withSQL(ctx, false, func(s backend) error {
			r, err := s.Query(ctx, args[0], o)
			return out.write(ctx, r, err)
		})
	}
	return cmd
}

// checkSQLFlags rejects flags that have no effect on the kind of statement.
func checkSQLFlags(cmd *cobra.Command, isWrite bool) error {
	names, kind := []string{"id", "json"}, "only to a statement that writes"
	if isWrite {
		names, kind = []string{"version", "snapshot", "since", "since-snapshot", "format", "output", "force", readOnlyFlag}, "only to a SELECT"
	}
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return cliutil.Usagef("--%s applies %s: leave it out", name, kind)
		}
	}
	return nil
}

func (a *app) printExec(asJSON bool, r tables.ExecResult) error {
	version := ""
	if r.Version != 0 {
		version = fmt.Sprintf(", version %d", r.Version)
	}
	return a.printResult(asJSON, r, "%s: %s changed %d rows%s\n", displayName(cmp.Or(r.Table, r.Bucket)), r.Verb, r.Rows, version)
}
