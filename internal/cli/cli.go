// Package cli is the command line of partd. Each command is a file of its own;
// what they share is here: running, exit codes, environment variables.
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
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/textfmt"
	"github.com/go-partd/partd/stores"
)

// app is what the commands work with.
type app struct {
	name     string // by which partd is called, "" for partd
	in       *os.File
	out, err io.Writer
	open     func(ctx context.Context, url string, options map[string]string) (partd.Partd, error)
	program  cliutil.Program
	more     []*cobra.Command // on stores

	// abandoned says what is left behind if the command does not end at all. The
	// command sets it, and run reads it.
	abandoned atomic.Pointer[string]

	catchesPipe atomic.Bool // a broken pipe is an error, not the end
}

// Main runs the command line with the process's streams and signals, and
// returns the exit code.
func Main(args []string) int { return MainWith(stores.NewSet(), args) }

// MainWith is Main of a program that opens the stores of a set, and has more commands.
func MainWith(set *stores.Set, args []string, more ...*cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	ctx = context.WithValue(ctx, setKey{}, set)
	return run(ctx, args, &app{name: calledAs(os.Args[0]), more: more, in: os.Stdin, out: os.Stdout, err: os.Stderr, open: openStore})
}

func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	root.SetArgs(args)
	type result struct {
		cmd *cobra.Command
		err error
	}
	done := make(chan result, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		done <- result{cmd, err}
	}()
	select {
	case r := <-done:
		return a.report(ctx, r.cmd, r.err)
	case <-ctx.Done():
	}
	// A read or a write that hangs does not see the signal. Stores bear being
	// left at any point.
	const grace = 10 * time.Second
	select {
	case r := <-done:
		return a.report(ctx, r.cmd, r.err)
	case <-time.After(grace):
		fmt.Fprintln(a.err, "partd: interrupted, without waiting for the work under way: what it was writing may be incomplete")
		if advice := a.abandoned.Load(); advice != nil && *advice != "" {
			fmt.Fprintln(a.err, *advice)
		}
		return cliutil.ExitInterrupted
	}
}

const rootHelp = `partd stores bytes under keys and appends to them. It splits files that are
larger than memory by the value of a column, keeps the pieces of each key
together, and reads each key back whole.

A URL names a store. log:DIR, the default, is a directory of large files, fast
with any number of keys; one process at a time may write to it. file:DIR is a
directory with a file per key, for many processes and for Python's partd;
buffer+file:DIR?memory=256MiB puts memory in front of it. A compressing layer is
another prefix, as in zstd+log:DIR; there are snappy, s2, zstd, lz4, zlib, gzip,
bz2 and blosc. The URL is part of the store: read it through the layers that it
was written through.

Files are CSV, TSV, JSON lines and text. partd-tables, a program of its own, reads
and writes Parquet and Arrow: put "partd-tables convert FILE.parquet |" before a
command on files, which reads that with "--format csv -".`

// env are the variables of the flags.
var env = &cliutil.Env{
	Prefix: "PARTD_",
	Rivals: map[string][]string{"append": {"replace"}, "replace": {"append"}},
	Own:    []string{"group top"}, // PARTD_TOP is how many keys stat shows, and must not drop groups
}

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
	add("stores", "Work on stores:", a.more...)
	add("other", "Other:", newCompletion(a), cliutil.NewVersion(a.out, "partd"))
	root.SetHelpCommandGroupID("other")
	a.program = cliutil.Program{Env: env, ExitCodes: cliutil.ExitCodes, Out: a.out, Err: a.err}
	return a.program.Root(root)
}

func newCompletion(a *app) *cobra.Command {
	cmd := cliutil.NewCompletion(a.out, "commands and flags")
	cmd.Long = `Write a script that completes partd's commands and flags, stores, keys and column
names when you press Tab in a shell. --install writes it where new shells find
it; the other examples switch it on in the running shell. bash needs the package
bash-completion, loaded.`
	cmd.Example = `  partd completion --install bash
  source <(partd completion bash)
  source <(partd completion zsh)
  partd completion fish | source
  partd completion powershell | Out-String | Invoke-Expression`
	return cmd
}

// catchBrokenPipe makes a write to a pipe that nobody reads any more fail,
// instead of ending the process at once: temporary data have to go first.
func (a *app) catchBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a.catchesPipe.Store(true)
}

// brokenPipe ends the process as a broken pipe ends any, if one was the reason
// of an error.
func (a *app) brokenPipe(err error) bool {
	if !a.catchesPipe.Load() || !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// The runtime ends the process when a write to a broken standard output fails,
	// if nobody asked for the signal.
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{'\n'})
	return true
}

// called returns the command that a message tells to run.
func (a *app) called(args string) string { return cmp.Or(a.name, "partd") + " " + args }

// calledAs returns how this program is run again: as it was, if by a path. One that
// "go run" made is gone at its end.
func calledAs(arg0 string) string {
	exe, err := os.Executable()
	if info, ok := debug.ReadBuildInfo(); err == nil && ok && strings.Contains(exe, "go-build") && strings.HasSuffix(info.Path, "/cmd/partd") {
		if info.Main.Sum != "" { // of a version, not of the directory at hand
			return "go run " + info.Path + "@" + info.Main.Version
		}
		return "go run " + info.Path
	}
	if strings.ContainsRune(arg0, filepath.Separator) {
		return textfmt.ShellQuote(arg0)
	}
	return filepath.Base(arg0)
}

// storeArgument returns the flag that names a store, "" where it is that of all who
// give none.
func storeArgument(url string) string {
	if url == defaultStore && os.Getenv(env.Variable("store")) == "" {
		return ""
	}
	return " --store " + textfmt.ShellQuote(url)
}

// failure is an error of a command together with what followed from it.
type failure struct {
	err     error
	closing error  // closing the store failed as well
	advice  string // what the failure leaves behind, and how to go on
}

func (f *failure) Error() string {
	text := f.err.Error()
	if f.closing != nil {
		text += "\n" + f.closing.Error()
	}
	if f.advice != "" {
		text += "\n" + f.advice
	}
	return text
}

func (f *failure) Unwrap() []error {
	if f.closing == nil {
		return []error{f.err}
	}
	return []error{f.err, f.closing}
}

// report prints an error and returns the exit code for it.
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
	default: // where it was at that moment says nothing
		fmt.Fprintln(a.err, "partd: interrupted")
	}
	if f.closing != nil && !filejobs.SameCause(f.err, f.closing) {
		fmt.Fprintln(a.err, "partd: "+cliutil.Message(f.closing))
	}
	if f.advice != "" {
		fmt.Fprintln(a.err, f.advice)
	}
	switch {
	case interrupted:
		return cliutil.ExitInterrupted
	case !a.program.Started || cliutil.IsUsage(err) || errors.As(err, new(*filejobs.OptionError)):
		fmt.Fprintf(a.err, "Try %q.\n", strings.TrimSpace(a.called(strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "partd"), " ")))+" --help")
		return cliutil.ExitUsage
	}
	return cliutil.ExitFailed
}
