package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

func newSnapshot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save and restore states of a bucket",
		Long: `Save and restore named states of a bucket. A snapshot contains all tables with their rows and
metadata, but no data is copied. It can be read until it is deleted, even after its tables change
or are deleted.`,
		Example: "  partd-tables snapshot create before-import\n  partd-tables snapshot restore before-import",
	}
	cmd.AddCommand(newSnapshotCreate(a), newSnapshotList(a), newSnapshotDelete(a), newSnapshotRestore(a))
	return cmd
}

func newSnapshotCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create [flags] [--] [SNAPSHOT]",
		Short:   "Create a snapshot of a bucket",
		Long:    `Create a snapshot of a bucket and print its name. Without SNAPSHOT, the name is the current time.`,
		Example: "  partd-tables snapshot create before-import --bucket NYSE",
	}
	p := locationFlags(cmd, "the `BUCKET` (default: the default bucket)")
	asJSON := cmd.Flags().Bool("json", false, "write one JSON object")
	return operationCommand(cmd, p, operations.TakeSnapshot, func(args []string) (*operations.Snapshot, error) {
		snapshot := &operations.Snapshot{Bucket: *p.bucket}
		if len(args) > 0 {
			snapshot.Name = args[0]
			if snapshot.Name == "" {
				return nil, cliutil.Usagef("the name of the snapshot is empty")
			}
		}
		return snapshot, nil
	}, func(in *operations.Snapshot, created operations.Snapshot) error {
		if *asJSON {
			return cliutil.NewEncoder(a.out).Encode(map[string]string{"bucket": in.Bucket, "name": created.Name})
		}
		_, err := fmt.Fprintln(a.out, created.Name)
		return err
	})
}

type snapshotLine struct {
	Bucket   string       `json:"bucket"`
	Name     string       `json:"name"`
	Time     string       `json:"time"`
	Tables   int          `json:"tables"`
	Metadata metadataJSON `json:"metadata"`
}

// metadataJSON is metadata that printList shows as JSON.
type metadataJSON tables.Metadata

func (o metadataJSON) String() string { return metadataText(tables.Metadata(o)) }

func newSnapshotList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [flags]",
		Short:   "List the snapshots of a bucket",
		Long:    `List the snapshots of a bucket, oldest first.`,
		Example: "  partd-tables snapshot list --bucket NYSE --json",
	}
	p := readFlags(cmd, "the `BUCKET` (default: the default bucket)")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each snapshot")
	return operationCommand(cmd, p, operations.Snapshots, func([]string) (*operations.Bucket, error) {
		return &operations.Bucket{Bucket: *p.bucket}, nil
	}, func(_ *operations.Bucket, snapshots []tables.SnapshotInfo) error {
		return printSnapshots(a, *asJSON, snapshots)
	})
}

func printSnapshots(a *app, asJSON bool, snapshots []tables.SnapshotInfo) error {
	return printList(a.out, asJSON, snapshots, func(i tables.SnapshotInfo) snapshotLine {
		return snapshotLine{i.Bucket, i.Name, i.Time.Format("2006-01-02T15:04:05.000000Z07:00"), i.Tables, metadataJSON(i.Metadata)}
	})
}

func newSnapshotDelete(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] [--] [SNAPSHOT…]",
		Short: "Delete snapshots of a bucket",
		Long: `Delete snapshots of a bucket. A missing snapshot is not an error. To remove files that become
unused, run "partd-tables expire".`,
		Example: "  partd-tables snapshot delete before-import --bucket NYSE\n  partd-tables snapshot delete --all",
	}
	p := locationFlags(cmd, "the `BUCKET` (default: the default bucket)")
	all := cmd.Flags().Bool("all", false, "delete all snapshots of the bucket")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return cliutil.Usagef("name the snapshots to delete, or use --all")
		}
		names := args
		if *all {
			names = []string{""}
		}
		ctx := cmd.Context()
		return p.withBackend(ctx, false, func(s backend) error {
			for _, name := range names {
				if _, err := operations.DeleteSnapshots.Do(ctx, s.Target, &operations.Snapshot{Bucket: *p.bucket, Name: name, All: *all}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func newSnapshotRestore(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore [flags] [--] SNAPSHOT [NAME…]",
		Short: "Restore a bucket, or some of its tables, from a snapshot",
		Long: `Restore a bucket to its state in a snapshot, in one commit: changed tables get a new version with
the rows, columns and metadata in the snapshot, deleted tables are restored, and tables created
after the snapshot are deleted. With NAMEs, only the named tables are restored.`,
		Example: "  partd-tables snapshot restore before-import --bucket NYSE\n  partd-tables snapshot restore before-import AAPL --bucket NASDAQ",
	}
	p := locationFlags(cmd, "the `BUCKET` (default: the default bucket)")
	return operationCommand(cmd, p, operations.Restore, func(args []string) (*operations.Snapshot, error) {
		return &operations.Snapshot{Bucket: *p.bucket, Name: args[0], Tables: args[1:]}, nil
	}, printNothing)
}
