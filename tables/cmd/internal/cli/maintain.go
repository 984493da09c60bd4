package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// maintenanceCommand makes cmd run a maintenance operation with the options in, and print the result that report
// formats as text.
func maintenanceCommand(a *app, cmd *cobra.Command, o operations.Operation[tables.MaintainOptions, tables.MaintainResult], in *tables.MaintainOptions, report func(tables.MaintainResult) string) *cobra.Command {
	p := locationFlags(cmd, allBucketsUsage)
	return operationCommand(cmd, p, o, func(args []string) (*tables.MaintainOptions, error) {
		in.Buckets = p.requestedBuckets(cmd)
		if len(args) > 0 {
			in.Buckets, in.Tables = tables.Buckets{*p.bucket}, args
		}
		return in, nil
	}, func(_ *tables.MaintainOptions, result tables.MaintainResult) error {
		return a.report("%s\n", report(result))
	})
}

func newFold(a *app) *cobra.Command {
	return maintenanceCommand(a, &cobra.Command{
		Use:   "fold [flags] [--] [NAME…]",
		Short: "Move small appends into Parquet files",
		Long: `Move the rows of small appends into Parquet files, in a new version of each table, so that other
programs can read them.`,
		Example: "  partd-tables fold\n  partd-tables fold AAPL --bucket NASDAQ",
	}, operations.Fold, &tables.MaintainOptions{}, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d rows of %d tables folded", r.Rows, r.Tables)
	})
}

func newCompact(a *app) *cobra.Command {
	return maintenanceCommand(a, &cobra.Command{
		Use:     "compact [flags] [--] [NAME…]",
		Short:   "Merge many small files into few large ones",
		Long:    `Merge the many small files of tables into few large ones, in a new version of each table.`,
		Example: "  partd-tables compact\n  partd-tables compact AAPL --bucket NASDAQ",
	}, operations.Compact, &tables.MaintainOptions{}, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d tables compacted: %d files instead of %d", r.Tables, r.FilesAfter, r.FilesBefore)
	})
}

func newExpire(a *app) *cobra.Command {
	o := &tables.MaintainOptions{}
	cmd := maintenanceCommand(a, &cobra.Command{
		Use:   "expire [flags] [--] [NAME…]",
		Short: "Remove old versions and unused files",
		Long: `Remove the versions that are older than --older-than, but always keep the newest --keep versions of
each table. Then remove the files that have been unused for longer than --grace: until then, readers
in other processes may still need them.`,
		Example: "  partd-tables expire --older-than 720h --keep 10",
	}, operations.Expire, o, func(r tables.MaintainResult) string {
		return fmt.Sprintf("%d versions expired, %d files removed (%d bytes), %d unused files remain for now", r.Versions, r.FilesRemoved, r.BytesRemoved, r.FilesWaiting)
	})
	cmd.Flags().DurationVar(&o.OlderThan, "older-than", 7*24*time.Hour, "expire versions that are older than this `AGE`, such as 720h")
	cmd.Flags().IntVar(&o.Keep, "keep", 1, "keep the newest `N` versions, whatever their age")
	cmd.Flags().DurationVar(&o.Grace, "grace", 24*time.Hour, "remove files that have been unused for longer than `AGE`; use 0 only if no other process uses the directory")
	cmd.PreRun = func(*cobra.Command, []string) {
		if o.Grace == 0 {
			o.Grace = -1 // because 0 means the default
		}
	}
	return cmd
}

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [flags] [--] [NAME…]",
		Short: "Find and repair damaged files",
		Long: `Read all files of all tables, or of the named tables, in all versions and snapshots. Check them
against their checksums, and check Parquet files against the row counts and bounds in their
manifests. If files are damaged or missing, verify lists them and exits with code 1. Files from
other programs have no checksum: verify reads them and reports them as unverified.

With --repair-from, each damaged file is replaced with its copy from another location of the tables,
if the copy has the original content.

With --server, the running server verifies its tables. This needs an admin token.`,
		Example: "  partd-tables verify\n  partd-tables verify AAPL --bucket NASDAQ --json\n  partd-tables verify --repair-from /mnt/backup\n  partd-tables verify --server grpc://localhost:8081 --repair-from daily",
	}
	fs := cmd.Flags()
	c := newCopyFlags(a, cmd, "dir", "repair-from", "the `DIR` of tables that contains intact copies of the files")
	asJSON := fs.Bool("json", false, "write a JSON object for each damaged file")
	fs.BoolVar(&c.p.rebuild, "rebuild", false, "first replace a damaged catalog with a new one, built from its readable parts and from the tables' metadata files")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if c.p.rebuild && *c.p.server != "" {
			return cliutil.Usagef("--rebuild and --server cannot be combined: stop the server first")
		}
		in := &operations.VerifyRequest{Paced: operations.Paced{Rate: c.rate.Bytes}, Buckets: c.p.requestedBuckets(cmd)}
		if len(args) > 0 {
			in.Buckets, in.Tables = tables.Buckets{*c.p.bucket}, args
		}
		var v tables.VerifyResult
		err := printRecords(a.out, *asJSON, func(emit func(tables.Finding) error) (err error) {
			return runCopying(cmd.Context(), c, operations.Verify, in, func(r operations.CopyProgress) error {
				if r.Verified != nil {
					v = *r.Verified
				}
				if r.Finding != nil {
					return emit(*r.Finding)
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		if v.Damaged > 0 {
			err = fmt.Errorf("%s damaged", map[bool]string{true: "1 file is", false: fmt.Sprint(v.Damaged, " files are")}[v.Damaged == 1])
		}
		fmt.Fprintf(a.errOut, "%s, %s read (%s): %d damaged, %d repaired, %d unverified\n", count(v.Tables, "table"), count(v.Files, "file"), count(v.Bytes, "byte"), v.Damaged, v.Repaired, v.Unverified)
		return err
	}
	return cmd
}
