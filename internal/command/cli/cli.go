// Package cli is the command line of partd. Each command has its own file. This file runs the commands, and app.go has
// the code that they share.
package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

// Main runs the command line with the process's streams and signals and returns the exit code.
func Main(args []string) int { return MainWith(stores.NewSet(), args) }

// MainWith is like Main, but opens stores with set and also offers the commands in more.
func MainWith(set *stores.Set, args []string, more ...*cobra.Command) int {
	ctx, stop := cliutil.SignalContext()
	defer stop()
	ctx = context.WithValue(ctx, storeSetKey{}, set)
	return execute(ctx, args, &app{name: programName(os.Args[0]), extraCommands: more, in: os.Stdin, out: os.Stdout, errOut: os.Stderr, open: openStore})
}

func execute(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	ctx = context.WithValue(ctx, warningsKey{}, cliutil.NewWarnings(root.Name(), a.errOut))
	type result struct {
		cmd *cobra.Command
		err error
	}
	done := make(chan result, 1)
	go func() {
		cmd, err := a.program.Execute(ctx, root, args)
		done <- result{cmd, err}
	}()
	select {
	case r := <-done:
		return a.report(ctx, r.cmd, r.err)
	case <-ctx.Done():
	}
	// A read or a write that hangs ignores the signal, so do not wait forever. Stores tolerate
	// being abandoned at any point.
	const grace = 10 * time.Second
	select {
	case r := <-done:
		return a.report(ctx, r.cmd, r.err)
	case <-time.After(grace):
		fmt.Fprintln(a.errOut, "partd: interrupted, without waiting for work in progress: its output may be incomplete")
		if advice := a.abandoned.Load(); advice != nil && *advice != "" {
			fmt.Fprintln(a.errOut, textfmt.RedactURLs(*advice))
		}
		return cliutil.ExitInterrupted
	}
}

const rootHelp = `partd stores bytes under keys and appends to them. It splits files that are
larger than memory by the value of a column, keeps the pieces of each key
together, and reads each key back in full.

A URL names a store. log:DIR, the default, is a directory of large files, which
is fast with any number of keys; one process at a time may write to it. file:DIR
is a directory with a file for each key, for several processes and for Python's
partd. buffer+file:DIR?memory=256MiB adds a buffer in memory. Other prefixes
compress the data, as in zstd+log:DIR: snappy, s2, zstd, lz4, zlib, gzip, bz2
and blosc. Always read a store with the prefixes with which it was written.

Files are CSV, TSV, JSON lines and text. With Parquet and Arrow files, sort and
split run the separate program partd-tables. Before other commands on files, put
"partd-tables convert FILE.parquet |" and let the command read standard input
with "--format csv -".`

// Root returns the commands, for manual pages.
func Root() *cobra.Command { return newRoot(&app{name: "partd"}) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "partd",
		Short: "Split large files by key into a store and read it back",
		Long:  rootHelp,
		Example: `  partd shuffle --by "Origin State" birdstrikes.csv
  partd keys
  partd get California`,
	}
	add := func(id, title string, cmds ...*cobra.Command) {
		if !root.ContainsGroup(id) {
			root.AddGroup(&cobra.Group{ID: id, Title: title})
		}
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	add("files", "Work on files:", newShuffle(a), newGroup(a), newSort(a), newJoin(a), newSplit(a), newDistinct(a), newTop(a))
	add("stores", "Work on stores:",
		newAppend(a), newGet(a), newKeys(a), newScan(a), newStat(a), newNamespaces(a), newVerify(a), newCopy(a), newDelete(a), newDrop(a), newAdopt(a))
	add("stores", "Work on stores:", a.extraCommands...)
	add("other", "Other:", newCompletion(a), cliutil.NewVersion(a.out, "partd"))
	root.SetHelpCommandGroupID("other")
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.errOut}
	a.program.Sibling.Name = tableProgram
	a.program.Sibling.Commands = []string{"backup", "convert", "each", "import", "list", "pull", "put", "restore", "serve", "snapshot", "sql", "upsert"}
	return a.program.Root(root)
}

func newCompletion(a *app) *cobra.Command {
	cmd := cliutil.NewCompletion(a.out, "commands and flags")
	cmd.Long = `Write a script that completes partd's commands and flags, stores, keys and
column names when you press Tab in a shell. --install writes it to a place where
new shells find it; the other examples enable it in the running shell. bash
needs the package bash-completion.`
	cmd.Example = `  partd completion --install bash
  source <(partd completion bash)
  source <(partd completion zsh)
  partd completion fish | source
  partd completion powershell | Out-String | Invoke-Expression`
	return cmd
}

// programName returns the command that runs this program again, usually the program's name or path.
// If "go run" started the program, the command is a "go run" command, because the program's file no
// longer exists after its end.
func programName(arg0 string) string {
	exe, err := os.Executable()
	if info, ok := debug.ReadBuildInfo(); err == nil && ok && strings.Contains(exe, "go-build") && strings.HasSuffix(info.Path, "/cmd/partd") {
		if info.Main.Sum != "" { // a released version, not the current directory
			return "go run " + info.Path + "@" + info.Main.Version
		}
		return "go run " + info.Path
	}
	if strings.ContainsRune(arg0, filepath.Separator) {
		return textfmt.ShellQuote(arg0)
	}
	return filepath.Base(arg0)
}
