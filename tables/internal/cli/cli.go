// Package cli implements the command line of partd-tables.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// app is the state that the commands share.
type app struct {
	in       *os.File
	out, err io.Writer
	program  cliutil.Program
}

// env sets flags from environment variables. It does not use the prefix PARTD_, which belongs to the program partd.
var env = &cliutil.Env{Prefix: "PARTD_TABLES_", Excludes: map[string][]string{
	"server": {"dir"}, "copy server": {"from"}, "dir": {"server", "bucket_dir"}, "bucket_dir": {"dir"},
	"listen": {"port", "host"}, "port": {"listen"}, "host": {"listen"},
	"tls-cert": {"cert_file"}, "cert_file": {"tls-cert"}, "tls-key": {"key_file"}, "key_file": {"tls-key"},
	"secret-file": {"secret"}, "secret": {"secret-file"}, "to-format": {"format", "to"}, "format": {"to-format"}, "to": {"to-format"},
}}

// Main runs the command line with the process's streams and signals, and returns the exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills the process
	return run(ctx, args, &app{in: os.Stdin, out: os.Stdout, err: os.Stderr})
}

func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return cliutil.ExitOK
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(a.err, "partd-tables: interrupted")
		return cliutil.ExitInterrupted
	}
	if errors.Is(err, tables.ErrExists) && cmd.Flags().Lookup("mode") != nil {
		err = fmt.Errorf("%w: use --mode append or --mode replace", err)
	}
	message := strings.TrimPrefix(cliutil.Message(err), "tables: ")
	message = strings.NewReplacer("bulk: split: ", "", "bulk: sort: ", "").Replace(message)
	fmt.Fprintln(a.err, "partd-tables: "+message)
	if !a.program.Started || cliutil.IsUsage(err) {
		fmt.Fprintf(a.err, "Try %q.\n", cmd.CommandPath()+" --help")
		return cliutil.ExitUsage
	}
	return cliutil.ExitFailed
}

const rootHelp = `partd-tables stores tables in a directory or a cloud bucket. Tables have names, are grouped
in buckets, and have versions. The files are in Apache Iceberg's format, so other
programs can read them.

A put is visible whole or not at all. After the command has ended, the rows
survive a power failure. Small appends are collected, and written as Parquet
later, by fold or by a program that has the directory open. Until then, only
partd-tables and Go programs see them. Only one process at a time can open a directory.
To write from many machines, use --dir s3://BUCKET/PREFIX and a PostgreSQL --catalog.`

// Root returns the commands, for manual pages.
func Root() *cobra.Command { return newRoot(&app{}) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "partd-tables",
		Short: "Store tables, with versions",
		Long:  rootHelp,
		Example: `  partd-tables put birdstrikes birdstrikes.csv
  partd-tables get birdstrikes --where "\"Cost Total $\" > 100000" --limit 10
  partd-tables list`,
	}
	completion := cliutil.NewCompletion(a.out, "commands, flags and tables")
	completion.Example = `  partd-tables completion --install bash
  source <(partd-tables completion bash)`
	root.AddCommand(
		newPut(a), newConvert(a), newSplit(a), newSort(a), newGet(a), newChanges(a), newHead(a), newTail(a), newSettings(a), newSQL(a), newList(a), newBuckets(a), newDelete(a), newDescribe(a), newVersions(a),
		newDeleteRows(a), newReplaceRange(a), newUpsert(a), newPartition(a), newEvolve(a), newRules(a), newSnapshot(a), newMeta(a),
		newResample(a), newCombine(a), newClean(a),
		newFold(a), newCompact(a), newExpire(a), newVerify(a), newCopy(a), newBackup(a), newBackups(a), newRestore(a), newImport(a), newExport(a), newServe(a), newPull(a), newToken(a), cliutil.NewHealth(a.out, "partd-tables", "health", "http"), completion, cliutil.NewVersion(a.out, "partd-tables"))
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.err}
	return a.program.Root(root)
}

const (
	tableBucketUsage = "the table's `BUCKET` (default: the default bucket)"
	allBucketsUsage  = "only this `BUCKET` (default: all buckets; \"\" is the default bucket)"
)

// forEachTable calls f for each table that the filter selects in the given buckets. If buckets is empty, it searches
// all buckets.
func forEachTable(ctx context.Context, s backend, buckets tables.Buckets, filter tables.Filter, f func(tables.TableInfo) error) error {
	for name, err := range operations.Buckets.Each(ctx, s.Target, &operations.None{}) {
		if err != nil {
			return err
		}
		if len(buckets) > 0 && !slices.Contains(buckets, name) {
			continue
		}
		for info, err := range operations.Tables.Each(ctx, s.Target, &operations.List{Bucket: name, Filter: filter}) {
			if err == nil {
				err = f(info)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (l location) completeTables(cmd *cobra.Command, _ []string, prefix string) (names []string, _ cobra.ShellCompDirective) {
	const (
		maxNames = 1000
		timeout  = time.Second
	)
	errLimit := errors.New("enough names found")
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	if env.Apply(cmd) == nil {
		_ = l.withBackend(ctx, false, func(s backend) error { // after an error, offer the names found so far
			return forEachTable(ctx, s, tables.Buckets{*l.bucket}, tables.Filter{}, func(info tables.TableInfo) error {
				if strings.HasPrefix(info.Name, prefix) && cliutil.IsPrintable(info.Name) {
					names = append(names, info.Name)
				}
				if len(names) == maxNames {
					return errLimit
				}
				return nil
			})
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// timeText formats a time in UTC with milliseconds, because times in a table's metadata have this precision.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
