package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
)

// maintenance makes a command of a Store's method that looks after tables.
func maintenance(a *app, cmd *cobra.Command, options *tables.MaintainOptions, do func(backend, context.Context, *tables.MaintainOptions) (tables.MaintainResult, error), report func(tables.MaintainResult) string) *cobra.Command {
	cmd.Args = cliutil.Takes(0, -1, "")
	p := placeFlags(cmd, anyBucket)
	cmd.ValidArgsFunction = p.completeTables
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options.Bucket, options.Tables = p.chosen(cmd), args
		if len(args) > 0 {
			options.Bucket = p.bucket
		} else {
			options.Tables = nil
		}
		return p.with(cmd.Context(), false, func(s backend) error {
			done, err := do(s, cmd.Context(), options)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.err, report(done))
			return err
		})
	}
	return cmd
}

func newFold(a *app) *cobra.Command {
	return maintenance(a, &cobra.Command{
		Use:   "fold [flags] [--] [NAME…]",
		Short: "Write small appends as Parquet, where other programs see them",
		Long: `Write the rows of small appends as Parquet, in a new version of their table. Other
programs that read the files see them then.`,
		Example: "  partd-tables fold\n  partd-tables fold AAPL --bucket NASDAQ",
	}, &tables.MaintainOptions{}, backend.Fold, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d rows of %d tables folded", r.Rows, r.Tables)
	})
}

func newCompact(a *app) *cobra.Command {
	return maintenance(a, &cobra.Command{
		Use:     "compact [flags] [--] [NAME…]",
		Short:   "Make few large files of many small ones",
		Long:    `Write the rows of many small files into few large ones, in a new version of their table.`,
		Example: "  partd-tables compact\n  partd-tables compact AAPL --bucket NASDAQ",
	}, &tables.MaintainOptions{}, backend.Compact, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d tables compacted: %d files instead of %d", r.Tables, r.FilesAfter, r.FilesBefore)
	})
}

func newExpire(a *app) *cobra.Command {
	o := &tables.MaintainOptions{}
	cmd := maintenance(a, &cobra.Command{
		Use:   "expire [flags] [--] [NAME…]",
		Short: "Forget old versions, and remove files of no use",
		Long: `Forget versions that are older than --older-than, but not the newest --keep of a
table, and remove files that nothing needs any more. A file is removed once it has
been of no use for a day, so that who reads it now can go on.`,
		Example: "  partd-tables expire --older-than 720h --keep 10",
	}, o, backend.Expire, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d versions expired, %d files with %d bytes removed, %d files wait", r.Versions, r.FilesRemoved, r.BytesRemoved, r.FilesWaiting)
	})
	cmd.Flags().DurationVar(&o.OlderThan, "older-than", 7*24*time.Hour, "the `AGE` from which versions expire, as in 720h")
	cmd.Flags().IntVar(&o.Keep, "keep", 1, "keep the newest `N` versions, whatever their age")
	return cmd
}
