package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// app holds what all commands share: the process's streams and how to open a store.
type app struct {
	name          string // name or path of the program for messages; "" means partd
	in            *os.File
	out, errOut   io.Writer
	open          func(ctx context.Context, url string, options map[string]string) (partd.Partd, error)
	program       cliutil.Program
	extraCommands []*cobra.Command // additional commands on stores

	// abandoned is advice about incomplete data, set by the command. execute prints it if the command
	// does not stop after an interrupt.
	abandoned atomic.Pointer[string]

	catchesPipe atomic.Bool // writing to a broken pipe returns an error instead of ending the process
}

var env = &cliutil.Env{
	Prefix:   "PARTD_",
	Excludes: map[string][]string{"append": {"replace"}, "replace": {"append"}},
	Ignored:  []string{"PARTD_ERRORS", "PARTD_SERVER_", "PARTD_TABLES_", "PARTD_TOKEN", "PARTD_TEST_", "PARTD_REQUIRE_ALL"},
	// PARTD_TOP sets stat's --top, the number of keys that stat shows. It must not also set group's --top.
	PerCommand: []string{"group top"},
}

// catchBrokenPipe makes a write to a broken pipe return an error instead of ending the process, so
// that the command can remove temporary data.
func (a *app) catchBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	a.catchesPipe.Store(true)
}

// endIfBrokenPipe ends the process, like an uncaught SIGPIPE, if a broken pipe caused err. If the
// process does not end, endIfBrokenPipe reports whether a broken pipe caused err.
func (a *app) endIfBrokenPipe(err error) bool {
	if !a.catchesPipe.Load() || !errors.Is(err, syscall.EPIPE) {
		return false
	}
	// Unless the signal is caught, the runtime ends the process when a write to a broken
	// standard output fails.
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte{'\n'}) // ends the process if the pipe is broken
	return true
}

// commandLine returns a command line that runs this program, for messages.
func (a *app) commandLine(args string) string { return cmp.Or(a.name, "partd") + " " + args }

// failure is a command's error with what the user must know about the store.
type failure struct {
	err      error
	closeErr error  // the error of closing the store, if that also failed
	advice   string // describes the state of the data and how to continue
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
	if a.endIfBrokenPipe(err) {
		return cliutil.ExitFailed
	}
	f := &failure{err: err}
	errors.As(err, &f)
	interrupted := ctx.Err() != nil && (errors.Is(f.err, ctx.Err()) || errors.Is(f.err, context.Cause(ctx)))
	message, lines, code := cliutil.Message(f.err), []string(nil), cliutil.ExitFailed
	switch {
	case interrupted && errors.Is(f.err, partd.ErrUnknownOutcome):
		message = "interrupted: " + partd.ErrUnknownOutcome.Error()
	case interrupted: // omit the error, because the user need not know which operation was interrupted
		message = "interrupted"
	}
	if f.closeErr != nil && !filejobs.SameCause(f.err, f.closeErr) {
		lines = append(lines, "partd: "+cliutil.Message(f.closeErr))
	}
	if f.advice != "" {
		lines = append(lines, textfmt.RedactURLs(f.advice))
	}
	switch {
	case interrupted:
		code = cliutil.ExitInterrupted
	case !a.program.Started || cliutil.IsUsage(err) || errors.As(err, new(*filejobs.OptionError)):
		lines = append(lines, fmt.Sprintf("Try %q.", strings.TrimSpace(a.commandLine(strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), "partd"), " ")))+" --help"))
		code = cliutil.ExitUsage
	}
	return a.program.Fail(code, err, message, lines...)
}
