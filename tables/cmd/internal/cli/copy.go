package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// storeFlag adds the flag called name for the location of tables, and a flag for their catalog.
func storeFlag(cmd *cobra.Command, name, usage string) location {
	dir, catalog := "", name+"-catalog"
	if name == "dir" {
		dir, catalog = defaultDir, "catalog"
	}
	fl := cmd.Flags()
	p := location{warehouse: warehouse{
		cmd:     cmd,
		dir:     fl.String(name, dir, usage+", or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
		catalog: fl.String(catalog, "", "`URL` of the catalog, postgres://HOST/DATABASE, or the directory that contains it (default: in DIR)"),
		tail:    new(string), cacheDir: new(string), cacheSize: &cliutil.Size{Bytes: tables.DefaultCacheSize},
	}}
	cliutil.Must(cmd.MarkFlagDirname(name))
	return p
}

// copyFlags holds the flags of a command that copies or verifies tables in a directory or on a server.
type copyFlags struct {
	a         *app
	p, copies location // locations of the tables and of their copies
	copyDir   string   // name of the flag for the location of the copies
	rate      cliutil.Size
}

// newCopyFlags adds the flags to cmd. dir is the name of the flag for the location of the tables, and copyDir that for
// their copies. If dir is "", the command reads only the copies.
func newCopyFlags(a *app, cmd *cobra.Command, dir, copyDir, copyUsage string) *copyFlags {
	c := &copyFlags{a: a, copyDir: copyDir, rate: cliutil.Size{Min: 1}}
	c.copies = storeFlag(cmd, copyDir, copyUsage+"; with --server, the name of a directory in the server's --backup-dir")
	c.p.warehouse.dir = new(string)
	if dir != "" {
		c.p = storeFlag(cmd, dir, "the `DIR` of the tables")
		c.p.bucket = cmd.Flags().String("bucket", "", allBucketsUsage)
		cmd.Flags().Var(&c.rate, "rate", "read at most this `SIZE` a second, such as 20MB (default: no limit)")
	}
	c.p.serverFlags(cmd, dir)
	return c
}

// runCopying runs an operation on the tables and their copies and calls f for each progress report. On a terminal, it
// shows the progress.
func runCopying[In any, P operations.CopyInput[In]](ctx context.Context, c *copyFlags, o operations.Operation[In, operations.CopyProgress], in P, f func(operations.CopyProgress) error) error {
	copyLocation := in.Location()
	var read atomic.Int64
	bar := progress.Start(c.a.errOut, progress.IsTerminal(c.a.errOut))
	defer bar.Stop()
	bar.Count(-1, read.Load)
	each := func(s backend) error {
		for r, err := range o.Each(ctx, s.Target, (*In)(in)) {
			if err == nil {
				read.Store(r.Bytes)
				err = f(r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if *c.p.server != "" {
		if *c.copies.catalog != "" {
			return cliutil.Usagef("--%s-catalog and --server cannot be combined", c.copyDir)
		}
		copyLocation.Dir = *c.copies.dir
		if c.p.dirFlag != nil && !c.p.dirFlag.Changed && strings.ContainsAny(copyLocation.Dir, `/\`) {
			return cliutil.Usagef("--%s=%s cannot be the name of a directory in the server's --backup-dir (--server %s): to work without a server, set --%s",
				c.copyDir, copyLocation.Dir, *c.p.server, c.p.dirFlag.Name)
		}
		return c.p.withServer(each)
	}
	from, to, isRestore := c.p, c.copies, o.Entry == operations.RestoreBackup.Entry
	if isRestore {
		from, to = to, from
	}
	withStore := func(l location, create bool, f func(*tables.Store) error) error {
		if *l.dir == "" {
			return f(nil)
		}
		return l.withDir(ctx, create, nil, func(s backend) error { return f(s.Store) })
	}
	return withStore(from, false, func(source *tables.Store) error {
		return withStore(to, o.Entry != operations.Verify.Entry && o.Entry != operations.Backups.Entry, func(target *tables.Store) error {
			copyLocation.Copies = target
			if isRestore {
				copyLocation.Copies, source = source, target
			}
			return each(backend{Target: operations.Target{Store: cmp.Or(source, target)}})
		})
	})
}

// copyCommand makes cmd run an operation that copies tables. dir and copyDir are as in newCopyFlags.
func copyCommand[In any, P operations.CopyInput[In]](a *app, cmd *cobra.Command, dir, copyDir string, o operations.Operation[In, operations.CopyProgress], request func(operations.Paced, tables.Buckets) (P, error)) *cobra.Command {
	c := newCopyFlags(a, cmd, dir, copyDir, "the `DIR` of the copies")
	cliutil.Must(cmd.MarkFlagRequired(copyDir))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *c.p.dir == "" && *c.p.server == "" {
			return cliutil.Usagef("--%s and --server are missing: set one of them to the location of the tables", dir)
		}
		in, err := request(operations.Paced{Rate: c.rate.Bytes}, c.p.requestedBuckets(cmd))
		if err != nil {
			return err
		}
		var copied []tables.CopiedTable
		err = runCopying(cmd.Context(), c, o, in, func(r operations.CopyProgress) error {
			if r.Table != nil {
				copied = append(copied, *r.Table)
			}
			return nil
		})
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
			fields := []string{state, cell(d.Bucket), cell(d.Name), count(d.Rows, "row")}
			if d.Checksum != "" {
				fields = append(fields, d.Checksum)
			}
			if _, err := fmt.Fprintln(a.out, strings.Join(fields, "\t")); err != nil {
				return err
			}
		}
		return a.report("%s, %s sent (%s)\n", count(len(copied), "table"), count(total.Files, "file"), count(total.Bytes, "byte"))
	}
	return cmd
}

func newCopy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "copy {--from URL | --server URL} --to URL [flags]",
		Short: "Copy tables to another location and verify the copy",
		Long: `Copy all buckets, or the bucket given by --bucket, to another directory or cloud bucket. Each table
is copied in its current state, with its columns, settings, rules and metadata, but without older
versions and snapshots. All tables of a bucket appear at once. To continue an interrupted copy, run
the command again.

The command then reads each table in both places, compares the row counts and an order-independent
checksum of the rows, and prints both. A table at the destination that is not a copy, or that has
changed since it was copied, is an error.

With --server, the running server copies its tables, and --to is the name of a directory in the
server's --backup-dir.`,
		Example: "  partd-tables copy --from tables --to /mnt/disk/tables\n  partd-tables copy --from tables --to s3://lake/tables --to-catalog postgres://db/tables --bucket NYSE\n  partd-tables copy --server grpc://localhost:8081 --to replica",
	}
	return copyCommand(a, cmd, "from", "to", operations.Copy, func(p operations.Paced, buckets tables.Buckets) (*operations.CopyRequest, error) {
		return &operations.CopyRequest{Paced: p, Buckets: buckets}, nil
	})
}

func newBackup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup --to URL --name NAME [flags]",
		Short: "Create a named backup of tables",
		Long: `Copy the current state of all buckets, or of the bucket given by --bucket, to a backup directory.
Files in earlier backups are not sent again, unless they are missing there or have another size.
To check the content of all files in backups, use "partd-tables verify --dir". An interrupted
backup has no name; the next backup continues it.

The backup directory is itself a directory of tables: a backup is a snapshot of each of its buckets.

With --server, the running server makes the backup, and --to is the name of a directory in the
server's --backup-dir. This needs an admin token. Clients can write during the backup, which
contains the state of all tables at a single point in time.`,
		Example: `  partd-tables backup --to /mnt/backup --name monday
  partd-tables backups --dir /mnt/backup
  partd-tables backup --server grpc+tls://db:8081 --token-file token --to daily --name monday --rate 50MB`,
	}
	name := nameFlag(cmd)
	return copyCommand(a, cmd, "dir", "to", operations.Backup, func(p operations.Paced, buckets tables.Buckets) (*operations.BackupRequest, error) {
		return &operations.BackupRequest{Paced: p, Name: *name, Buckets: buckets}, nil
	})
}

func newRestore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore --from URL --name NAME [flags]",
		Short: "Restore buckets from a backup",
		Long: `Restore all buckets in a backup, or the bucket given by --bucket, with their tables, metadata and
rules. Each bucket is restored in one commit. Tables created after the backup are deleted. Unchanged
tables keep their versions; changed and deleted tables are created again, without older versions.

With --server, the running server restores its tables from its --backup-dir.`,
		Example: `  partd-tables restore --from /mnt/backup --name monday
  partd-tables restore --from /mnt/backup --name monday --bucket NYSE --table trades
  partd-tables restore --server grpc://localhost:8081 --from daily --name monday`,
	}
	name, only := nameFlag(cmd), cmd.Flags().StringArray("table", nil, "restore only this `TABLE` of the bucket given by --bucket, and delete no tables; may be repeated")
	return copyCommand(a, cmd, "dir", "from", operations.RestoreBackup, func(p operations.Paced, buckets tables.Buckets) (*operations.RestoreRequest, error) {
		if len(*only) > 0 && len(buckets) == 0 {
			return nil, cliutil.Usagef("--table needs --bucket, the bucket of the table")
		}
		return &operations.RestoreRequest{Paced: p, Name: *name, Buckets: buckets, Tables: *only}, nil
	})
}

func nameFlag(cmd *cobra.Command) *string {
	name := cmd.Flags().String("name", "", "the `NAME` of the backup")
	cliutil.Must(cmd.MarkFlagRequired("name"))
	return name
}

func newBackups(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "backups --dir URL [flags]",
		Short:   "List backups",
		Long:    `List the backups in a directory, oldest first, with one line per bucket.`,
		Example: "  partd-tables backups --dir /mnt/backup --json\n  partd-tables backups --server grpc://localhost:8081 --dir daily",
	}
	c := newCopyFlags(a, cmd, "", "dir", "the `DIR` with the backups")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each backup")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var all []tables.SnapshotInfo
		err := runCopying(cmd.Context(), c, operations.Backups, new(operations.BackupsRequest), func(r operations.CopyProgress) error {
			if r.Backup != nil {
				all = append(all, *r.Backup)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return printSnapshots(a, *asJSON, all)
	}
	return cmd
}
