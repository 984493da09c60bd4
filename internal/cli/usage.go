package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is an error that the command line alone shows.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// takes checks the number of a command's arguments. What names the first that
// may be missing; most is -1 for any number.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing: %s", what, cmd.UseLine())
		case most == 0 && len(args) > 0:
			return usagef("%s takes no arguments, but was given %q", cmd.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return usagef("%q is too much: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// flagError says in plain words what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
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
		for _, argument := range []string{"KEY", "FILE"} {
			if strings.Contains(cmd.Use, "[--] "+argument) {
				what = fmt.Sprintf(" (a %s that begins with a dash goes after --: %s -- %s)", argument, cmd.CommandPath(), name)
			}
		}
		return usagef("there is no flag %s%s", name, what)
	case errors.As(err, &alone):
		name, _ := pflag.UnquoteUsage(alone.GetFlag())
		return usagef("--%s needs a value: --%s %s", alone.GetFlag().Name, alone.GetFlag().Name, name)
	case errors.As(err, &wrong):
		return usagef("--%s: %w", wrong.GetFlag().Name, valueError(wrong.GetFlag(), wrong.GetValue(), wrong.Unwrap()))
	}
	return usageError{err}
}

// valueError says what the value of a flag should have been. Err is what the
// flag itself says.
func valueError(f *pflag.Flag, value string, err error) error {
	switch f.Value.Type() {
	case "bool":
		return fmt.Errorf("%q is neither true nor false", value)
	case "int":
		return fmt.Errorf("%q is no whole number", value)
	}
	return err
}
