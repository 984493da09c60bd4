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

// Env describes the environment variables that set a program's flags.
type Env struct {
	Prefix     string              // of every variable's name, such as PARTD_
	Excludes   map[string][]string // mutually exclusive flags: if one of them is on the command line, the variables of the others are ignored
	Lists      []string            // flags that may be repeated: their variables hold values separated by blanks
	PerCommand []string            // flags, such as "group top", whose variables also contain the command's name because the flag means something else in other commands
}

// Variable returns the name of a flag's environment variable.
func (e *Env) Variable(flag string) string {
	return e.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// VariableOf returns the name of the variable for a flag of a command.
func (e *Env) VariableOf(cmd *cobra.Command, flag string) string {
	if slices.Contains(e.PerCommand, cmd.Name()+" "+flag) {
		flag = cmd.Name() + "-" + flag
	}
	return e.Variable(flag)
}

// Apply sets each flag that is missing on the command line from its variable. An empty
// variable counts as unset.
func (e *Env) Apply(cmd *cobra.Command) error {
	given := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(e.VariableOf(cmd, f.Name))
		if err != nil || value == "" || f.Name == "help" || f.Name == "version" || given[f.Name] || slices.ContainsFunc(e.Excludes[f.Name], func(other string) bool { return given[other] }) {
			return
		}
		values := []string{value}
		if slices.Contains(e.Lists, f.Name) {
			values = strings.Fields(value)
		}
		for _, v := range values {
			setErr := cmd.Flags().Set(f.Name, v)
			if setErr == nil {
				continue
			}
			if cause := errors.Unwrap(setErr); cause != nil {
				setErr = cause // drop the flag's name, which the user did not write
			}
			err = Usagef("the environment variable %s=%q: %w", e.VariableOf(cmd, f.Name), value, valueError(f, v, setErr))
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

func CheckProgress(value string) error {
	if value != "auto" && value != "always" && value != "never" {
		return Usagef("--progress is auto, always or never, not %q", value)
	}
	return nil
}

// ShowsProgress reports whether to show progress on w, given the value of --progress.
func ShowsProgress(value string, w io.Writer) bool {
	return value == "always" || value == "auto" && progress.IsTerminal(w)
}
