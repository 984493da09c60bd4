// Package cliutil contains code shared by the project's commands: exit codes, usage errors,
// environment variables for flags, completion and progress.
package cliutil

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/base/textfmt"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitInterrupted = 130
)

// ExitCodes describes the exit codes, for the help.
const ExitCodes = `0 done, 1 failed (data, files, a mismatch), 2 wrong usage,
130 interrupted.`

// UsageError is an error in the command line itself. It does not depend on the data.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Usagef returns a [UsageError] with the given text.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether err wraps a [UsageError].
func IsUsage(err error) bool { return errors.As(err, new(UsageError)) }

// CheckArgCount returns a function that checks the number of a command's arguments. missing names the
// required arguments in error messages. A maximum of -1 means no limit.
func CheckArgCount(minimum, maximum int, missing string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < minimum:
			return Usagef("%s is missing: %s", missing, cmd.UseLine())
		case maximum == 0 && len(args) > 0:
			return Usagef("%s takes no arguments: remove %q", cmd.CommandPath(), args[0])
		case maximum >= 0 && len(args) > maximum:
			return Usagef("unexpected argument %q: %s", args[maximum], cmd.UseLine())
		}
		return nil
	}
}

// argCounts derives the parameters of CheckArgCount from a usage line, such as "get [flags] [--]
// NAME [FILE…]". Optional arguments are in brackets.
func argCounts(use string) (minArgs, maxArgs int, missing string) {
	_, line, _ := strings.Cut(use, " ")
	for _, mark := range []string{"[flags]", "[--]"} {
		if _, rest, ok := strings.Cut(line, mark); ok {
			line = rest
		}
	}
	words := strings.Fields(line)
	maxArgs = len(words)
	if strings.Contains(line, "…") {
		maxArgs = -1
	}
	words = slices.DeleteFunc(words, func(word string) bool { return word[0] == '[' })
	return len(words), maxArgs, strings.ReplaceAll(strings.Join(words, " and "), "…", "")
}

// FlagError returns a usage error that explains cobra's error about a flag.
func FlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if shorthands := unknown.GetSpecifiedShortnames(); shorthands != "" {
			name = "-" + shorthands
		}
		hint := ""
		for _, argument := range []string{"KEY", "NAME", "FILE"} {
			if strings.Contains(cmd.Use, "[--] "+argument) {
				hint = fmt.Sprintf(" (if it is a %s that begins with a dash, put it after --: %s -- %s)", argument, cmd.CommandPath(), name)
			}
		}
		var flags []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
		return Usagef("unknown flag %s%s", name, cmp.Or(textfmt.Hint(name, flags), hint))
	case errors.As(err, &noValue):
		name, _ := pflag.UnquoteUsage(noValue.GetFlag())
		return Usagef("--%s needs a value: --%s %s", noValue.GetFlag().Name, noValue.GetFlag().Name, name)
	case errors.As(err, &invalid):
		return Usagef("--%s: %w", invalid.GetFlag().Name, valueError(invalid.GetFlag(), invalid.GetValue(), invalid.Unwrap()))
	}
	return UsageError{err}
}

// valueError returns an error that says what a flag's value must be. For most types, it returns
// err.
func valueError(f *pflag.Flag, value string, err error) error {
	switch kind := f.Value.Type(); {
	case kind == "bool" && errors.Is(err, strconv.ErrSyntax): // some flags of this type also accept other words
		return fmt.Errorf("%q is not true or false", value)
	case kind == "int":
		return fmt.Errorf("%q is not a whole number", value)
	case kind == "duration":
		return fmt.Errorf("%q is not a duration such as 10s or 2m", value)
	}
	return err
}

// diskErrors lists errors that affect a whole disk, not only one key or file.
var diskErrors = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO}

// Message returns an error's text for people. The text contains each path only once and no secrets
// from URLs. If one of diskErrors is the cause, the text begins with it.
func Message(err error) string {
	text := strings.TrimPrefix(textfmt.RedactURLs(err.Error()), "partd: ")
	text = strings.ReplaceAll(text, ": partd: ", ": ")
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		text = strings.Replace(text, p.Path+": "+p.Op+" "+p.Path+": ", p.Path+": ", 1)
	}
	for _, errno := range diskErrors {
		if rest, ok := strings.CutSuffix(text, ": "+errno.Error()); ok && errors.Is(err, errno) {
			return errno.Error() + ": " + rest
		}
	}
	return text
}
