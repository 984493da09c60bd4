package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
)

// stateFlags are the flags that choose an older state of tables. Call the function once
// the flags are parsed.
func stateFlags(cmd *cobra.Command) func() tables.At {
	fs := cmd.Flags()
	version := fs.Int64("version", -1, "the table at this `VERSION`")
	snapshot := fs.String("snapshot", "", "the state in this `SNAPSHOT` of the bucket")
	cmd.MarkFlagsMutuallyExclusive("version", "snapshot")
	return func() tables.At {
		switch {
		case fs.Changed("snapshot"):
			return tables.AtSnapshot(*snapshot)
		case fs.Changed("version"):
			return tables.AtVersion(tables.Version(*version))
		}
		return nil
	}
}

func newSnapshot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save the state of a bucket under a name",
		Long: `Save the state of a bucket under a name: all its tables with their rows and metadata.
Nothing is copied. A snapshot can be read until it is deleted, whatever happens to the
tables.`,
		Example: "  partd-tables snapshot create before-import\n  partd-tables snapshot restore before-import",
	}
	cmd.AddCommand(newSnapshotCreate(a), newSnapshotList(a), newSnapshotDelete(a), newSnapshotRestore(a))
	return cmd
}

func newSnapshotCreate(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "create [flags] [--] [SNAPSHOT]",
		Short:   "Make a snapshot of a bucket",
		Long:    `Make a snapshot of a bucket, and print its name: SNAPSHOT, or else the time.`,
		Example: "  partd-tables snapshot create before-import --bucket NYSE",
	}
	p := placeFlags(cmd, "the `BUCKET`; without it, the default one")
	asJSON := cmd.Flags().Bool("json", false, "write one JSON object")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return does(cmd, p, operations.TakeSnapshot, func(args []string) (*operations.Snapshot, error) {
		in := &operations.Snapshot{Bucket: *p.bucket}
		if len(args) > 0 {
			if in.Name = args[0]; in.Name == "" {
				return nil, cliutil.Usagef("the name of the snapshot is empty")
			}
		}
		return in, nil
	}, func(in *operations.Snapshot, made operations.Snapshot) error {
		if *asJSON {
			return encoder(a.out).Encode(map[string]string{"bucket": in.Bucket, "name": made.Name})
		}
		_, err := fmt.Fprintln(a.out, made.Name)
		return err
	})
}

type snapshotLine struct {
	Bucket   string `json:"bucket"`
	Name     string `json:"name"`
	Time     string `json:"time"`
	Tables   int    `json:"tables"`
	Metadata object `json:"metadata"`
}

// object is metadata that is shown to people as JSON.
type object tables.Metadata

func (o object) String() string { return metadataText(tables.Metadata(o)) }

func newSnapshotList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [flags]",
		Short:   "List the snapshots of a bucket",
		Long:    `List the snapshots of a bucket, oldest first.`,
		Example: "  partd-tables snapshot list --bucket NYSE --json",
	}
	p := placeFlags(cmd, "the `BUCKET`; without it, the default one")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each snapshot")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return does(cmd, p, operations.Snapshots, func([]string) (*operations.Bucket, error) {
		return &operations.Bucket{Bucket: *p.bucket}, nil
	}, func(_ *operations.Bucket, all []tables.SnapshotInfo) error { return snapshotLines(a, *asJSON, all) })
}

func snapshotLines(a *app, asJSON bool, all []tables.SnapshotInfo) error {
	return lines(a.out, asJSON, all, func(i tables.SnapshotInfo) snapshotLine {
		return snapshotLine{i.Bucket, i.Name, i.Time.Format("2006-01-02T15:04:05.000000Z07:00"), i.Tables, object(i.Metadata)}
	})
}

func newSnapshotDelete(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] [--] [SNAPSHOT…]",
		Short: "Delete snapshots of a bucket",
		Long: `Delete snapshots of a bucket. A missing one is not an error. The command expire removes
files that nothing else uses.`,
		Example: "  partd-tables snapshot delete before-import --bucket NYSE\n  partd-tables snapshot delete --all",
	}
	p := placeFlags(cmd, "the `BUCKET`; without it, the default one")
	all := cmd.Flags().Bool("all", false, "delete all snapshots of the bucket")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return cliutil.Usagef("name the snapshots to delete, or give --all")
		}
		names := args
		if *all {
			names = []string{""}
		}
		ctx := cmd.Context()
		return p.with(ctx, false, func(s backend) error {
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
		Long: `Restore a bucket to its state in a snapshot, in one commit: changed tables get a new
version with the rows, columns and metadata of the snapshot, deleted tables come back,
and tables made since are deleted. With NAMEs, only these tables are restored.`,
		Example: "  partd-tables snapshot restore before-import --bucket NYSE\n  partd-tables snapshot restore before-import AAPL --bucket NASDAQ",
	}
	p := placeFlags(cmd, "the `BUCKET`; without it, the default one")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return does(cmd, p, operations.Restore, func(args []string) (*operations.Snapshot, error) {
		return &operations.Snapshot{Bucket: *p.bucket, Name: args[0], Tables: args[1:]}, nil
	}, quiet)
}

// metadataText is a value of metadata for people: a text as it is, others as JSON.
func metadataText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
