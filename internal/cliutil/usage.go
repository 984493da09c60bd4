// Package cliutil is what the project's command lines share: exit codes, errors
// of usage, environment variables for flags, completion and progress.
package cliutil

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitInterrupted = 130
)

// ExitCodes tells of them in the help.
const ExitCodes = `0 done, 1 failed (data, files, a mismatch), 2 wrong usage,
130 interrupted.`

// UsageError is an error that the command line alone shows.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Usagef returns a [UsageError].
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// IsUsage reports whether the command line alone shows that an error had to come.
func IsUsage(err error) bool { return errors.As(err, new(UsageError)) }

// Takes checks the number of a command's arguments. What names the first that
// may be missing; maximum is -1 for any number.
func Takes(minimum, maximum int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < minimum:
			return Usagef("%s is missing: %s", what, cmd.UseLine())
		case maximum == 0 && len(args) > 0:
			return Usagef("%s takes no arguments, but got %q", cmd.CommandPath(), args[0])
		case maximum >= 0 && len(args) > maximum:
			return Usagef("unexpected argument %q: %s", args[maximum], cmd.UseLine())
		}
		return nil
	}
}

// usageTakes reads what Takes is told from a line of usage, as "get [flags] [--] NAME
// [FILE…]". Behind the flags are the arguments, in brackets those that may be missing.
func usageTakes(use string) (least, most int, what string) {
	_, line, _ := strings.Cut(use, " ")
	for _, mark := range []string{"[flags]", "[--]"} {
		if _, rest, found := strings.Cut(line, mark); found {
			line = rest
		}
	}
	words := strings.Fields(line)
	most = len(words)
	if strings.Contains(line, "…") {
		most = -1
	}
	words = slices.DeleteFunc(words, func(word string) bool { return word[0] == '[' })
	return len(words), most, strings.ReplaceAll(strings.Join(words, " and "), "…", "")
}

// FlagError says in plain words what is wrong with a flag.
func FlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var alone *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := "--" + unknown.GetSpecifiedName()
		if shorthands := unknown.GetSpecifiedShortnames(); shorthands != "" {
			name = "-" + shorthands
		}
		what := ""
		for _, argument := range []string{"KEY", "NAME", "FILE"} {
			if strings.Contains(cmd.Use, "[--] "+argument) {
				what = fmt.Sprintf(" (a %s that begins with a dash goes after --: %s -- %s)", argument, cmd.CommandPath(), name)
			}
		}
		return Usagef("there is no flag %s%s", name, what)
	case errors.As(err, &alone):
		name, _ := pflag.UnquoteUsage(alone.GetFlag())
		return Usagef("--%s needs a value: --%s %s", alone.GetFlag().Name, alone.GetFlag().Name, name)
	case errors.As(err, &wrong):
		return Usagef("--%s: %w", wrong.GetFlag().Name, valueError(wrong.GetFlag(), wrong.GetValue(), wrong.Unwrap()))
	}
	return UsageError{err}
}

// valueError says what the value of a flag should have been. Err is what the
// flag itself says.
func valueError(f *pflag.Flag, value string, err error) error {
	switch f.Value.Type() {
	case "bool":
		return fmt.Errorf("%q is neither true nor false", value)
	case "int":
		return fmt.Errorf("%q is not a whole number", value)
	case "duration":
		return fmt.Errorf("%q is not a duration such as 10s or 2m", value)
	}
	return err
}

// ofTheDisk are reasons that have nothing to do with the key or the file at hand.
var ofTheDisk = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO}

// Message returns the text of an error for people: the program's name only
// once, each path once, and first the cause, where it is one of the whole disk.
func Message(err error) string {
	text := strings.TrimPrefix(err.Error(), "partd: ")
	text = strings.ReplaceAll(text, ": partd: ", ": ")
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		text = strings.Replace(text, p.Path+": "+p.Op+" "+p.Path+": ", p.Path+": ", 1)
	}
	for _, number := range ofTheDisk {
		if rest, ok := strings.CutSuffix(text, ": "+number.Error()); ok && errors.Is(err, number) {
			return number.Error() + ": " + rest
		}
	}
	return text
}
