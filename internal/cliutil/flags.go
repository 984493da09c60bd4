package cliutil

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/progress"
)

// Env are the environment variables of a program's flags.
type Env struct {
	Prefix string              // of the names, such as PARTD_
	Rivals map[string][]string // flags that a flag excludes: each of them on the command line goes before the flag's variable, too
	Lists  []string            // flags that may be given several times: their variables hold values between blanks
	Own    []string            // flags, such as "group top", whose variables are named after their commands, too: the flag means something else elsewhere
}

// Variable returns the name of the environment variable of a flag.
func (e *Env) Variable(flag string) string {
	return e.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// VariableOf returns the variable of a command's flag.
func (e *Env) VariableOf(cmd *cobra.Command, flag string) string {
	if slices.Contains(e.Own, cmd.Name()+" "+flag) {
		flag = cmd.Name() + "-" + flag
	}
	return e.Variable(flag)
}

// Set sets the flags that the command line leaves out from their variables. An
// empty variable counts as not set.
func (e *Env) Set(cmd *cobra.Command) error {
	given := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(e.VariableOf(cmd, f.Name))
		if err != nil || value == "" || f.Name == "help" || f.Name == "version" || given[f.Name] || slices.ContainsFunc(e.Rivals[f.Name], func(rival string) bool { return given[rival] }) {
			return
		}
		values := []string{value}
		if slices.Contains(e.Lists, f.Name) {
			values = strings.Fields(value)
		}
		for _, v := range values {
			failed := cmd.Flags().Set(f.Name, v)
			if failed == nil {
				continue
			}
			if cause := errors.Unwrap(failed); cause != nil {
				failed = cause // without the name of the flag, which nobody wrote
			}
			err = Usagef("the environment variable %s=%q: %w", e.VariableOf(cmd, f.Name), value, valueError(f, v, failed))
			return
		}
	})
	return err
}

func ProgressFlag(cmd *cobra.Command) *string {
	when := cmd.Flags().String("progress", "auto", "show progress: `WHEN` is auto (on a terminal), always or never")
	Complete(cmd, "progress", "auto", "always", "never")
	return when
}

func CheckProgress(when string) error {
	if when != "auto" && when != "always" && when != "never" {
		return Usagef("--progress is auto, always or never, not %q", when)
	}
	return nil
}

// ShowsProgress reports whether progress is shown where errors go.
func ShowsProgress(when string, w io.Writer) bool {
	return when == "always" || when == "auto" && progress.IsTerminal(w)
}
