package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables/pull"
)

// withBucket calls f with the bucket of a URL, or a directory that takes its place.
func withBucket(ctx context.Context, place string, f func(objstore.Bucket) error) (err error) {
	var b objstore.Bucket
	if strings.Contains(place, "://") {
		b, err = cloud.OpenBucket(ctx, place)
	} else {
		b, err = objstore.OpenDirectory(place)
	}
	if err != nil {
		return err
	}
	err = f(b)
	if c, ok := b.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// bucketFlag is a flag for the place of backups.
func bucketFlag(cmd *cobra.Command, name string) *string {
	place := cmd.Flags().String(name, "", "the `DIR` of the backups, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
	required(cmd, name)
	return place
}

func newPullBackup(a *app) *cobra.Command {
	c := new(pullConfig)
	var name string
	var place *string
	var verify *bool
	cmd := c.command(&cobra.Command{
		Use:   "backup --to URL --name NAME [flags]",
		Short: "Back up the newest version of all tables under a name",
		Long: `Back up the newest version of each table, of whatever node, to a directory or a bucket
of a cloud. Files that are there from earlier backups are not sent again. If the command
is cut, there is no backup of the name, and the next one goes on.`,
		Example: "  partd-tables pull backup --to s3://backups/prices --name monday --verify",
		Args:    cliutil.Takes(0, 0, ""),
	}, func(ctx context.Context, n *pull.Node, _ []string) error {
		return withBucket(ctx, *place, func(b objstore.Bucket) error {
			done, err := n.Backup(ctx, b, name, *verify)
			return errors.Join(err, copiedLines(a, done, "sent"))
		})
	})
	place = bucketFlag(cmd, "to")
	nameFlag(cmd, &name)
	verify = cmd.Flags().Bool("verify", false, "read all files of the backup there, and replace those that are damaged")
	return cmd
}

func newPullRestore(a *app) *cobra.Command {
	c := new(pullConfig)
	var name string
	var place *string
	cmd := c.command(&cobra.Command{
		Use:   "restore --from URL --name NAME [flags] [--] [TABLE...]",
		Short: "Make tables what they were in a backup",
		Long: `Make all tables of a backup, or those that are named, what they were then. A table
that was changed since gets a new version; those that were made since stay. Each file is
compared with its hash.`,
		Example: "  partd-tables pull restore --from s3://backups/prices --name monday --dir empty",
	}, func(ctx context.Context, n *pull.Node, args []string) error {
		return withBucket(ctx, *place, func(b objstore.Bucket) error {
			done, err := n.Restore(ctx, b, name, args...)
			return errors.Join(err, copiedLines(a, done, "fetched"))
		})
	})
	place = bucketFlag(cmd, "from")
	nameFlag(cmd, &name)
	return cmd
}

func copiedLines(a *app, done []pull.Copied, what string) error {
	var files int
	var size int64
	for _, d := range done {
		files, size = files+d.Files, size+d.Bytes
		if _, err := fmt.Fprintf(a.out, "%s\tversion %d\t%d rows\t%d files\n", shown(d.Name), d.Version, d.Rows, d.Files); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.err, "%d tables, %d files with %d bytes %s\n", len(done), files, size, what)
	return err
}

func newPullBackups(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "backups --from URL",
		Short:   "List the backups of tables, oldest first",
		Example: "  partd-tables pull backups --from s3://backups/prices",
		Args:    cliutil.Takes(0, 0, ""),
	}
	place := bucketFlag(cmd, "from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withBucket(cmd.Context(), *place, func(b objstore.Bucket) error {
			all, err := pull.Backups(cmd.Context(), b)
			for _, i := range all {
				if _, err := fmt.Fprintf(a.out, "%s\t%s\n", i.Time.UTC().Format(time.RFC3339), shown(i.Name)); err != nil {
					return err
				}
			}
			return err
		})
	}
	return cmd
}
