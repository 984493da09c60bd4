package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

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
