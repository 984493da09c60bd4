package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
	"github.com/go-partd/partd/tables/internal/wire"
)

// settingsFlags are the flags for the settings of a table. What they return changes
// settings by those that were given, and reports whether any was.
func settingsFlags(cmd *cobra.Command) func(*tables.Settings) bool {
	fs := cmd.Flags()
	time := fs.String("time", "", "the `COLUMN` with the time, by which the table's rows are ordered")
	keys := fs.StringArray("key", nil, "a key `COLUMN`, which tells rows of equal time apart; may be repeated")
	rule := fs.String("on-duplicate", "", "what to do with rows of equal time and keys: the `RULE` is keep_all, keep_first, keep_last or error")
	cliutil.Complete(cmd, "on-duplicate", string(tables.KeepAll), string(tables.KeepFirst), string(tables.KeepLast), string(tables.RefuseDuplicate))
	return func(s *tables.Settings) bool {
		if fs.Changed("time") {
			s.Time = *time
		}
		if fs.Changed("key") {
			s.Keys = *keys
		}
		if fs.Changed("on-duplicate") {
			s.OnDuplicate = tables.OnDuplicate(*rule)
		}
		return fs.Changed("time") || fs.Changed("key") || fs.Changed("on-duplicate")
	}
}

func newSettings(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settings [flags] [--] NAME",
		Short: "Show or change the settings of a table",
		Long: `Change the settings of a table that flags name, and print all settings as JSON. A new order
of rows, or a new rule for duplicates, rewrites the table's files in one new version.`,
		Example: "  partd-tables settings trades --time time --key sym --on-duplicate keep_last",
	}
	p := placeFlags(cmd, theBucket)
	change := settingsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return p.with(ctx, false, func(s backend) error {
			settings, err := operations.Settings.Do(ctx, s.Target, &wire.Table{Bucket: *p.bucket, Name: args[0]})
			if err != nil {
				return err
			}
			if change(&settings) {
				if _, err := operations.SetSettings.Do(ctx, s.Target, &operations.TableSettings{Bucket: *p.bucket, Name: args[0], Settings: settings}); err != nil {
					return err
				}
			}
			return encoder(a.out).Encode(settings)
		})
	}
	return cmd
}

// newEnd makes head and tail.
func newEnd(a *app, cmd *cobra.Command, options func(n int64) *tables.ScanOptions) *cobra.Command {
	p := placeFlags(cmd, theBucket)
	n := cmd.Flags().Int64P("rows", "n", 10, "the number of `ROWS`")
	columns := cmd.Flags().String("columns", "", "the `COLUMNS` to write, separated by commas")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each row")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *n < 1 {
			return cliutil.Usagef("--rows is %d, but must be 1 or more", *n)
		}
		out := &result{a: a}
		if *asJSON {
			out.format = "jsonl"
		}
		o := options(*n)
		names, err := columnNames("columns", *columns)
		if err = errors.Join(err, out.choose()); err != nil {
			return err
		}
		o.Columns = names
		ctx := cmd.Context()
		return p.with(ctx, false, func(s backend) error {
			r, err := s.Scan(ctx, *p.bucket, args[0], nil, o)
			return out.write(ctx, r, err)
		})
	}
	return cmd
}

func newHead(a *app) *cobra.Command {
	return newEnd(a, &cobra.Command{
		Use:     "head [flags] [--] NAME",
		Short:   "Write the first rows of a table",
		Long:    `Write the first rows of a table: the earliest ones, if it has a time column.`,
		Example: "  partd-tables head trades -n 3",
	}, func(n int64) *tables.ScanOptions { return &tables.ScanOptions{Limit: n} })
}

func newTail(a *app) *cobra.Command {
	return newEnd(a, &cobra.Command{
		Use:     "tail [flags] [--] NAME",
		Short:   "Write the last rows of a table",
		Long:    `Write the last rows of a table, in their order: the latest ones, if it has a time column.`,
		Example: "  partd-tables tail trades -n 1 --json",
	}, func(n int64) *tables.ScanOptions { return &tables.ScanOptions{Last: n} })
}
