package cli

import (
	"encoding/json"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// sinceFlags adds flags that select an earlier state. purpose says in the help what the state is for. After the flags are
// parsed, the returned function returns the state, or nil if no flag selects one.
func sinceFlags(cmd *cobra.Command, purpose string) func() (tables.At, error) {
	fs := cmd.Flags()
	since := fs.String("since", "", "the earlier state for "+purpose+": a `VERSION` or a time")
	snapshot := fs.String("since-snapshot", "", "use the state in this `SNAPSHOT` of the bucket as the earlier state")
	cmd.MarkFlagsMutuallyExclusive("since", "since-snapshot")
	return func() (tables.At, error) {
		switch {
		case fs.Changed("since") && *since == "", fs.Changed("since-snapshot") && *snapshot == "":
			return nil, cliutil.Usagef("the value of --since or --since-snapshot is empty: pass a version, a time or a snapshot, or leave out the flag")
		case fs.Changed("since-snapshot"):
			return tables.AtSnapshot(*snapshot), nil
		case *since == "":
			return nil, nil
		}
		if n, err := strconv.ParseInt(*since, 10, 64); err == nil {
			return tables.AtVersion(tables.Version(n)), nil
		}
		t, _, err := filter.ParseTime(*since)
		if err != nil {
			return nil, cliutil.Usagef("--since %q is neither a version nor a time: %w", *since, err)
		}
		return tables.AtTime(t), nil
	}
}

func newChanges(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "changes [flags] [--] NAME",
		Short: "Write the rows of a table that changed since a version",
		Long: `Write the rows of a table that changed since an earlier state. --since or --since-snapshot selects
the earlier state; without them, all rows are written as inserts. The changes are the net difference
between two states: a row that was added and deleted in between does not appear. The output formats
are those of "partd-tables get".

The column _change is insert, delete, update_before or update_after. A deleted and an inserted row
are an update if they have the same values in the columns named by --key, and no other changed
row has these values.

At the end, the command prints the version that the changes lead to on standard error. To get the
next changes, pass that version to --since. If it has expired, or the table was created again, the
command fails: start again without --since.

With --follow, the command does not end. At most once per --every, it writes the new changes as
JSON lines or as an Arrow stream, with _version as the last column. Reading changes moves small
appends into files. With --state FILE, a later run continues where this run ended. With --state and
-o, no row is written twice. --follow needs --server, or a catalog in PostgreSQL.`,
		Example: "  partd-tables changes trades --since 41 -o changes.parquet\n" +
			"  partd-tables changes trades --since 41 --key id --json --format jsonl\n" +
			"  partd-tables changes trades --server grpc://localhost:8815 --follow --state trades.state -o trades.jsonl",
	}
	p := readFlags(cmd, tableBucketUsage)
	since := sinceFlags(cmd, "the comparison")
	at := stateFlags(cmd)
	key := cmd.Flags().String("key", "", "the `COLUMNS` that identify a row, separated by commas (default: the table's time and key columns)")
	uuid := cmd.Flags().String("uuid", "", "fail if the table has another `UUID`, because it was created again")
	asJSON := cmd.Flags().Bool("json", false, "write the version and the table's UUID to standard error, as a JSON object")
	out := outputFlags(a, cmd, "format")
	f := addFollowFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := since()
		if err != nil {
			return err
		}
		if err := f.check(cmd, p, out); err != nil {
			return err
		}
		o := &tables.ChangesOptions{UUID: *uuid}
		o.Keys, err = columnNames("key", *key)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if f.follow {
			return p.withBackend(ctx, false, func(s backend) error {
				return f.run(ctx, a, s, out, *p.bucket, args[0], from, o, *asJSON)
			})
		}
		if err := out.chooseFormat(); err != nil {
			return err
		}
		return p.withBackend(ctx, false, func(s backend) error {
			r, err := s.Changes(ctx, *p.bucket, args[0], at(), from, o)
			if err != nil {
				return err
			}
			if err := out.write(ctx, r, nil); err != nil {
				return err
			}
			if *asJSON {
				return json.NewEncoder(a.errOut).Encode(map[string]any{"version": r.Version, "uuid": r.UUID})
			}
			return a.report("The changes lead to version %d.\n", r.Version)
		})
	}
	return cmd
}
