// Package cli is the command line of partd. Each command has its own file. This file contains what
// the commands share: running a command, exit codes and environment variables.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/stores"
)

type app struct {
	name          string // name or path of the program for messages; "" means partd
	in            *os.File
	out, err      io.Writer
	open          func(ctx context.Context, url string, options map[string]string) (partd.Partd, error)
	program       cliutil.Program
	extraCommands []*cobra.Command // additional commands on stores

	// abandoned is advice about incomplete data, set by the command. run prints it if the command
	// does not stop after an interrupt.
	abandoned atomic.Pointer[string]

	catchesPipe atomic.Bool // writing to a broken pipe returns an error instead of ending the process
}

// Main runs the command line with the process's streams and signals, and returns the exit
// code.
func Main(args []string) int { return MainWith(stores.NewSet(), args) }

// MainWith is like Main, but opens stores with set, and also offers the commands in more.
func MainWith(set *stores.Set, args []string, more ...*cobra.Command) int {
	ctx, stop := cliutil.SignalContext()
	defer stop()
	ctx = context.WithValue(ctx, setKey{}, set)
	return run(ctx, args, &app{name: programName(os.Args[0]), extraCommands: more, in: os.Stdin, out: os.Stdout, err: os.Stderr, open: openStore})
}

func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	ctx = context.WithValue(ctx, warningsKey{}, cliutil.NewWarnings(root.Name(), a.err))
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
		fmt.Fprintln(a.err, "partd: interrupted, without waiting for work in progress: its output may be incomplete")
		if advice := a.abandoned.Load(); advice != nil && *advice != "" {
			fmt.Fprintln(a.err, textfmt.RedactURLs(*advice))
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
partd. buffer+file:DIR?memory=256MiB adds a buffer in memory. Another prefix
compresses, as in zstd+log:DIR. There are snappy, s2, zstd, lz4, zlib, gzip, bz2
and blosc. Always read a store with the prefixes that it was written with.

Files are CSV, TSV, JSON lines and text. With Parquet and Arrow files, sort and
split run the separate program partd-tables. Before other commands on files, put
"partd-tables convert FILE.parquet |", and let the command read standard input
with "--format csv -".`

var env = &cliutil.Env{
	Prefix:   "PARTD_",
	Excludes: map[string][]string{"append": {"replace"}, "replace": {"append"}},
	Ignored:  []string{"PARTD_SERVER_", "PARTD_TABLES_", "PARTD_TOKEN", "PARTD_TEST_", "PARTD_REQUIRE_ALL"},
	// PARTD_TOP sets stat's --top, the number of keys that stat shows. It must not also set group's --top.
	PerCommand: []string{"group top"},
}

// Root returns the commands, for manual pages.
func Root() *cobra.Command { return newRoot(&app{name: "partd"}) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "partd",
		Short: "Split large files by key into a store, and read it back",
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
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.err}
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

// catchBrokenPipe makes a write to a broken pipe return an error instead of ending the process, so
// that the command can remove temporary data.
func (a *app) catchBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a.catchesPipe.Store(true)
}

// brokenPipe ends the process, like an uncaught SIGPIPE, if a broken pipe caused err.
func (a *app) brokenPipe(err error) bool {
	if !a.catchesPipe.Load() || !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// Unless the signal is caught, the runtime ends the process when a write to a broken
	// standard output fails.
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{'\n'}) // a broken pipe ends the process
	return true
}

// commandLine returns a command line that runs this program, for messages.
func (a *app) commandLine(args string) string { return cmp.Or(a.name, "partd") + " " + args }

// programName returns the command that runs this program again: usually the program's name or path.
// If "go run" started the program, the command is a "go run" command, because go run removes the
// program when it ends.
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

// storeArgument returns the --store flag for a store, or "" if it is the default store.
func storeArgument(url string) string {
	if url == defaultStore && os.Getenv(env.Variable("store")) == "" {
		return ""
	}
	return " --store " + textfmt.ShellQuote(url)
}

// failure is a command's error together with its consequences.
type failure struct {
	err      error
	closeErr error  // the error of closing the store, if that also failed
	advice   string // describes the state of the data, and how to continue
}

func (f *failure) Error() string {
	text := f.err.Error()
	if f.closeErr != nil {
		text += "\n" + f.closeErr.Error()
	}
	if f.advice != "" {
		text += "\n" + f.advice
	}
	return text
}

func (f *failure) Unwrap() []error {
	if f.closeErr == nil {
		return []error{f.err}
	}
	return []error{f.err, f.closeErr}
}

func (a *app) report(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return cliutil.ExitOK
	}
	if a.brokenPipe(err) {
		return cliutil.ExitFailed
	}
	f := &failure{err: err}
	errors.As(err, &f)
	interrupted := ctx.Err() != nil && (errors.Is(f.err, ctx.Err()) || errors.Is(f.err, context.Cause(ctx)))
	switch {
	case !interrupted:
		fmt.Fprintln(a.err, "partd: "+cliutil.Message(f.err))
	case errors.Is(f.err, partd.ErrUnknownOutcome):
		fmt.Fprintln(a.err, "partd: interrupted:", partd.ErrUnknownOutcome)
	default: // omit the error: the interrupted operation does not matter to the user
		fmt.Fprintln(a.err, "partd: interrupted")
	}
	if f.closeErr != nil && !filejobs.SameCause(f.err, f.closeErr) {
		fmt.Fprintln(a.err, "partd: "+cliutil.Message(f.closeErr))
	}
	if f.advice != "" {
		fmt.Fprintln(a.err, textfmt.RedactURLs(f.advice))
	}
	switch {
	case interrupted:
		return cliutil.ExitInterrupted
	case !a.program.Started || cliutil.IsUsage(err) || errors.As(err, new(*filejobs.OptionError)):
		fmt.Fprintf(a.err, "Try %q.\n", strings.TrimSpace(a.commandLine(strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "partd"), " ")))+" --help")
		return cliutil.ExitUsage
	}
	return cliutil.ExitFailed
}
