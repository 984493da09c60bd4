// Package cli implements the command line of partd-tables.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
)

// Main runs the command line with the process's streams and signals. It returns the exit code.
func Main(args []string) int {
	ctx, stop := cliutil.SignalContext()
	defer stop()
	return runCommand(ctx, args, &app{in: os.Stdin, out: os.Stdout, errOut: os.Stderr})
}

func runCommand(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	cmd, err := a.program.Execute(ctx, root, args)
	switch {
	case err == nil:
		return cliutil.ExitOK
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return a.program.Fail(cliutil.ExitInterrupted, err, "interrupted")
	}
	if errors.Is(err, tables.ErrExists) && cmd.Flags().Lookup("mode") != nil {
		err = cliutil.Advise(err, ": use --mode append or --mode replace")
	}
	message := strings.TrimPrefix(cliutil.Message(err), "tables: ")
	message = strings.NewReplacer("bulk: split: ", "", "bulk: sort: ", "", "bulk: each: ", "").Replace(message)
	if !a.program.Started || cliutil.IsUsage(err) {
		return a.program.Fail(cliutil.ExitUsage, err, message, fmt.Sprintf("Try %q.", cmd.CommandPath()+" --help"))
	}
	return a.program.Fail(cliutil.ExitFailed, err, message)
}

const rootHelp = `partd-tables stores tables in a directory or a cloud bucket. Tables are grouped in buckets,
and each change to a table creates a version. The files are in Apache Iceberg's format, so
other programs can read them.

All rows of a put become visible at once. After the command has ended, they survive a power
failure. Small appends are collected and later moved into Parquet files, by the command fold or
by a program that has the directory open. Until then, only partd-tables and Go programs see
them. Only one process at a time can open a directory. To write from many machines, use
--dir s3://BUCKET/PREFIX with a PostgreSQL --catalog.`

// Root returns the commands, for manual pages.
func Root() *cobra.Command { return newRoot(&app{}) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "partd-tables",
		Short: "Store tables with versions",
		Long:  rootHelp,
		Example: `  partd-tables put birdstrikes birdstrikes.csv
  partd-tables get birdstrikes --where "\"Cost Total $\" > 100000" --limit 10
  partd-tables list`,
	}
	completion := cliutil.NewCompletion(a.out, "commands, flags and tables")
	completion.Example = `  partd-tables completion --install bash
  source <(partd-tables completion bash)`
	root.AddCommand(
		newPut(a), newConvert(a), newSplit(a), newSort(a), newEach(a), newGet(a), newChanges(a), newHead(a), newTail(a), newSettings(a), newSQL(a), newList(a), newBuckets(a), newDelete(a), newDescribe(a), newVersions(a),
		newDeleteRows(a), newReplaceRange(a), newUpsert(a), newPartition(a), newEvolve(a), newRules(a), newSnapshot(a), newMeta(a),
		newResample(a), newCombine(a), newClean(a),
		newFold(a), newCompact(a), newExpire(a), newVerify(a), newCopy(a), newBackup(a), newBackups(a), newRestore(a), newImport(a), newExport(a), newServe(a), newPull(a), newToken(a), cliutil.NewHealth(a.out, "partd-tables", "health", "http"), completion, cliutil.NewVersion(a.out, "partd-tables"))
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.errOut, Details: addDetails}
	return a.program.Root(root)
}

func newPull(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Save and load tables that several nodes share",
		Long: `Save and load tables that several nodes share. A node is a directory. "pull serve" offers a
node's files to other nodes; "pull get" fetches only missing files. Nodes find each other in a NATS
registry, which is given by --registry. By default, the first node on this machine runs a registry
for all nodes on this machine. docs/pull.md is a tour.`,
		Example: "  partd-tables pull save prices prices.parquet --dir here\n  partd-tables pull get prices --dir there --from 2024-01-02",
	}
	cliutil.Experimental(cmd)
	cmd.AddCommand(newPullServe(a, runCommand), newPullSave(a), newPullGet(a), newPullList(a), newPullVerify(a), newPullBackup(a), newPullBackups(a), newPullRestore(a), newPullForget())
	return cmd
}
