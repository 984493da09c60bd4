// Package cli is the command line of partd-tables. What the commands share is
// here: running, exit codes, the store, names that the shell completes.
package cli

import (
	"context"
	"encoding/json"
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

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/operations"
)

// app is what the commands work with.
type app struct {
	in       *os.File
	out, err io.Writer
	program  cliutil.Program
}

// env does without PARTD_ alone, whose PARTD_STORE and others are of the command
// partd.
var env = &cliutil.Env{Prefix: "PARTD_TABLES_", Rivals: map[string][]string{
	"server": {"dir"}, "dir": {"server", "bucket_dir"}, "bucket_dir": {"dir"},
	"listen": {"port", "host"}, "port": {"listen"}, "host": {"listen"},
	"tls-cert": {"cert_file"}, "cert_file": {"tls-cert"}, "tls-key": {"key_file"}, "key_file": {"tls-key"},
	"secret-file": {"secret"}, "secret": {"secret-file"},
}}

// Main runs the command line with the process's streams and signals, and returns
// the exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
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
	fmt.Fprintln(a.err, "partd-tables: "+strings.TrimPrefix(cliutil.Message(err), "tables: "))
	if !a.program.Started || cliutil.IsUsage(err) {
		fmt.Fprintf(a.err, "Try %q.\n", cmd.CommandPath()+" --help")
		return cliutil.ExitUsage
	}
	return cliutil.ExitFailed
}

const rootHelp = `partd-tables keeps rows under names, in a directory or a cloud bucket: tables in buckets, with
versions. Its files are Apache Iceberg's, so other programs can read them.

A put is visible whole or not at all, and once the command has ended the rows
survive a loss of power. Small appends are collected, and written as Parquet
later by fold, or by a program that has the directory open; until then only
partd-tables and Go programs see them. One process at a time can have a directory;
many machines can write if --dir is s3://BUCKET/PREFIX and --catalog a PostgreSQL database.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "partd-tables",
		Short: "Keep rows under names, with versions",
		Long:  rootHelp,
		Example: `  partd-tables put birdstrikes birdstrikes.csv
  partd-tables get birdstrikes --where "\"Cost Total $\" > 100000" --limit 10
  partd-tables list`,
	}
	completion := cliutil.NewCompletion(a.out, "commands, flags and tables")
	completion.Example = `  partd-tables completion --install bash
  source <(partd-tables completion bash)`
	root.AddCommand(
		newPut(a), newConvert(a), newGet(a), newHead(a), newTail(a), newSettings(a), newSQL(a), newList(a), newBuckets(a), newDelete(a), newDescribe(a), newVersions(a),
		newDeleteRows(a), newReplaceRange(a), newUpsert(a), newPartition(a), newEvolve(a), newRules(a), newSnapshot(a), newMeta(a),
		newResample(a), newCombine(a), newClean(a),
		newFold(a), newCompact(a), newExpire(a), newVerify(a), newCopy(a), newBackup(a), newBackups(a), newRestore(a), newImport(a), newExport(a), newServe(a), newPull(a), newToken(a), completion, cliutil.NewVersion(a.out, "partd-tables"))
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.err}
	return a.program.Root(root)
}

const (
	theBucket = "the `BUCKET` of the table; without it, the default one"
	anyBucket = "only this `BUCKET`; without it, all (--bucket \"\" is the default one)"
)

// each calls f with each table of the buckets asked for.
func each(ctx context.Context, s backend, buckets tables.Buckets, filter tables.Filter, f func(tables.TableInfo) error) error {
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

// completeTables completes the names of tables.
func (p place) completeTables(cmd *cobra.Command, _ []string, begun string) (names []string, _ cobra.ShellCompDirective) {
	const (
		atMost = 1000
		within = time.Second
	)
	enough := errors.New("enough")
	ctx, cancel := context.WithTimeout(cmd.Context(), within)
	defer cancel()
	if env.Set(cmd) == nil {
		_ = p.with(ctx, false, func(s backend) error { // what fails completes nothing
			return each(ctx, s, tables.Buckets{*p.bucket}, tables.Filter{}, func(info tables.TableInfo) error {
				if strings.HasPrefix(info.Name, begun) && cliutil.Plain(info.Name) {
					names = append(names, info.Name)
				}
				if len(names) == atMost {
					return enough
				}
				return nil
			})
		})
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// encoder writes lines of JSON.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// Times are written in UTC, all as long: a table keeps milliseconds.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
