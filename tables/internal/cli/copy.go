package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/tables"
)

// storeFlag adds a flag for the location of tables, and a flag for their catalog. name is the name of the first flag.
func storeFlag(cmd *cobra.Command, name, usage string) location {
	defaultDir, catalog := "", name+"-catalog"
	if name == "dir" {
		defaultDir, catalog = "partd-tables", "catalog"
	}
	fl := cmd.Flags()
	p := location{warehouse: warehouse{
		dir:     fl.String(name, defaultDir, usage+", or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
		catalog: fl.String(catalog, "", "`URL` of the catalog, postgres://HOST/DATABASE, or its directory (default: in DIR)"),
		tail:    new(string), cacheDir: new(string), cacheSize: &sizeflag.Size{Bytes: tables.DefaultCacheSize},
	}}
	must(cmd.MarkFlagDirname(name))
	return p
}

func markRequired(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		must(cmd.MarkFlagRequired(name))
	}
}

// withStore runs f on the store at p, which must not be a server: f needs the tables' files.
func (p location) withStore(ctx context.Context, create bool, f func(*tables.Store) error) error {
	return p.withDir(ctx, create, nil, func(s backend) error { return f(s.Store) })
}

// copyCommand makes cmd call copyTables with two stores. from and to are the names of the flags for their locations.
func copyCommand(a *app, cmd *cobra.Command, from, to string, copyTables func(ctx context.Context, from, to *tables.Store, buckets ...string) ([]tables.CopiedTable, error)) *cobra.Command {
	source, target := storeFlag(cmd, from, "the `DIR` to copy tables from"), storeFlag(cmd, to, "the `DIR` to copy tables to")
	for _, name := range []string{from, to} {
		if name != "dir" {
			markRequired(cmd, name)
		}
	}
	p := location{bucket: cmd.Flags().String("bucket", "", allBucketsUsage)}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		return source.withStore(ctx, false, func(from *tables.Store) error {
			return target.withStore(ctx, true, func(to *tables.Store) error {
				copied, err := copyTables(ctx, from, to, p.requestedBuckets(cmd)...)
				if err != nil {
					return err
				}
				var total tables.CopiedTable
				for _, d := range copied {
					state := "copied"
					if d.Unchanged {
						state = "unchanged"
					}
					total.Files += d.Files
					total.Bytes += d.Bytes
					if _, err := fmt.Fprintf(a.out, "%s\t%s\t%s\t%d rows\t%s\n", state, displayName(d.Bucket), displayName(d.Name), d.Rows, d.Checksum); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintf(a.err, "%d tables; %d files sent (%d bytes)\n", len(copied), total.Files, total.Bytes)
				return err
			})
		})
	}
	return cmd
}

func newCopy(a *app) *cobra.Command {
	return copyCommand(a, &cobra.Command{
		Use:   "copy --from URL --to URL [flags]",
		Short: "Copy tables to another location, and verify the copy",
		Long: `Copy all buckets, or one, to another directory or cloud bucket: each table in its current state,
with its columns, settings, rules and metadata, but without older versions and snapshots. All
tables of a bucket appear at once. To continue an interrupted copy, run the command again.

The command then reads each table in both places, compares the row counts and a checksum
of all rows in any order, and prints both. A table at the destination that is not a copy,
or has changed since it was copied, is an error.`,
		Example: "  partd-tables copy --from tables --to /mnt/disk/tables\n  partd-tables copy --from tables --to s3://lake/tables --to-catalog postgres://db/tables --bucket NYSE",
	}, "from", "to", func(ctx context.Context, from, to *tables.Store, buckets ...string) ([]tables.CopiedTable, error) {
		return from.CopyTo(ctx, to, buckets...)
	})
}

func newBackup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup --to URL --name NAME [flags]",
		Short: "Back up tables under a name",
		Long: `Copy the current state of all buckets, or of one, to a backup directory, under a name.
Data that earlier backups contain is not sent again. An interrupted backup has no
name; the next backup continues it.

The backup directory contains tables itself: a backup is a snapshot of each of its buckets.`,
		Example: "  partd-tables backup --to /mnt/backup --name monday\n  partd-tables backups --dir /mnt/backup",
	}
	name := nameFlag(cmd)
	return copyCommand(a, cmd, "dir", "to", func(ctx context.Context, from, to *tables.Store, buckets ...string) ([]tables.CopiedTable, error) {
		return from.Backup(ctx, to, *name, buckets...)
	})
}

func newRestore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore --from URL --name NAME [flags]",
		Short: "Restore buckets from a backup",
		Long: `Restore all buckets of a backup, or one, each in one commit, with its
tables, metadata and rules. Tables created later are deleted. Unchanged tables keep
their versions; changed and deleted ones are created again, without older versions.`,
		Example: "  partd-tables restore --from /mnt/backup --name monday\n  partd-tables restore --from /mnt/backup --name monday --bucket NYSE",
	}
	name := nameFlag(cmd)
	return copyCommand(a, cmd, "from", "dir", func(ctx context.Context, from, to *tables.Store, buckets ...string) ([]tables.CopiedTable, error) {
		return to.RestoreFrom(ctx, from, *name, buckets...)
	})
}

func nameFlag(cmd *cobra.Command) *string {
	name := cmd.Flags().String("name", "", "the `NAME` of the backup")
	markRequired(cmd, "name")
	return name
}

func newBackups(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "backups --dir URL [flags]",
		Short:   "List backups",
		Long:    `List the backups in a directory, oldest first, with one line per bucket.`,
		Example: "  partd-tables backups --dir /mnt/backup --json",
	}
	p := storeFlag(cmd, "dir", "the `DIR` of the backups")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each backup")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.withStore(cmd.Context(), false, func(s *tables.Store) error {
			all, err := s.Backups(cmd.Context())
			if err != nil {
				return err
			}
			return printSnapshots(a, *asJSON, all)
		})
	}
	return cmd
}
