package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/tables/pull"
)

// withBucket calls f with the cloud bucket at url or, if url is a path, with a bucket in that directory. If create is
// true, withBucket creates a missing directory.
func withBucket(ctx context.Context, url string, create bool, f func(objstore.Bucket) error) (err error) {
	var b objstore.Bucket
	if strings.Contains(url, "://") {
		b, err = cloud.OpenBucket(ctx, url)
	} else {
		_, err = os.Stat(url)
		if err == nil || create {
			b, err = objstore.OpenDirectory(url)
		}
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

func bucketFlag(cmd *cobra.Command, name string) *string {
	url := cmd.Flags().String(name, "", "`DIR` with the backups, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
	cliutil.Must(cmd.MarkFlagRequired(name))
	return url
}

// backupCommand makes cmd copy tables to or from a named backup, whose location is the value of the flag flagName.
// The summary that cmd prints uses verb, such as "sent".
func backupCommand(a *app, cmd *cobra.Command, flagName, verb string, copyTables func(ctx context.Context, n *pull.Node, b objstore.Bucket, name string, args []string) ([]pull.Copied, error)) *cobra.Command {
	url, name := bucketFlag(cmd, flagName), nameFlag(cmd)
	return new(pullConfig).command(cmd, func(ctx context.Context, n *pull.Node, args []string) error {
		return withBucket(ctx, *url, flagName == "to", func(b objstore.Bucket) error {
			copied, err := copyTables(ctx, n, b, *name, args)
			return errors.Join(err, printCopied(a, copied, verb))
		})
	})
}

func newPullBackup(a *app) *cobra.Command {
	verify := false
	cmd := backupCommand(a, &cobra.Command{
		Use:   "backup --to URL --name NAME [flags]",
		Short: "Create a named backup of the newest version of each table",
		Long: `Back up the newest version of each table, whichever node has it, to a directory or
a cloud bucket. Files in earlier backups are not sent again. An interrupted backup
has no name; the next backup continues it.`,
		Example: "  partd-tables pull backup --to s3://backups/prices --name monday --verify",
	}, "to", "sent", func(ctx context.Context, n *pull.Node, b objstore.Bucket, name string, _ []string) ([]pull.Copied, error) {
		return n.Backup(ctx, b, name, verify)
	})
	cmd.Flags().BoolVar(&verify, "verify", false, "read all files of the backup and replace damaged ones")
	return cmd
}

func newPullRestore(a *app) *cobra.Command {
	return backupCommand(a, &cobra.Command{
		Use:   "restore --from URL --name NAME [flags] [--] [TABLE...]",
		Short: "Restore tables from a backup",
		Long: `Restore all tables in a backup, or only the named tables. A table that has changed
since the backup gets a new version. Tables created after the backup are kept. Each
file is checked against its hash.`,
		Example: "  partd-tables pull restore --from s3://backups/prices --name monday --dir empty",
	}, "from", "fetched", func(ctx context.Context, n *pull.Node, b objstore.Bucket, name string, args []string) ([]pull.Copied, error) {
		return n.Restore(ctx, b, name, args...)
	})
}

func printCopied(a *app, copied []pull.Copied, verb string) error {
	var files int
	var size int64
	for _, d := range copied {
		files, size = files+d.Files, size+d.Bytes
		if _, err := fmt.Fprintf(a.out, "%s\tversion %d\t%s\t%s\n", displayName(d.Name), d.Version, count(d.Rows, "row"), count(d.Files, "file")); err != nil {
			return err
		}
	}
	return a.report("%s, %s %s (%s)\n", count(len(copied), "table"), count(files, "file"), verb, count(size, "byte"))
}

func newPullBackups(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "backups --from URL",
		Short:   "List the backups of tables, oldest first",
		Example: "  partd-tables pull backups --from s3://backups/prices",
		Args:    cliutil.CheckArgCount(0, 0, ""),
	}
	url := bucketFlag(cmd, "from")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withBucket(cmd.Context(), *url, false, func(b objstore.Bucket) error {
			backups, err := pull.Backups(cmd.Context(), b)
			for _, i := range backups {
				if _, err := fmt.Fprintf(a.out, "%s\t%s\n", i.Time.UTC().Format(time.RFC3339), displayName(i.Name)); err != nil {
					return err
				}
			}
			return err
		})
	}
	return cmd
}
