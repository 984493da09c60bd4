package cliutil

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/base/textfmt"
)

// Env describes the environment variables that set a program's flags.
type Env struct {
	Prefix string // prefix of all variable names, such as PARTD_
	// Excludes maps a flag ("dir", or "copy dir" for the flag of the command copy) to flags that exclude it. If one
	// of these is on the command line, the flag's variable is ignored.
	Excludes map[string][]string
	Lists    []string // flags that can be repeated; their variables hold values separated by spaces
	// PerCommand lists flags as "command flag", such as "group top", if their meaning differs between commands. Their
	// variables include the command's name.
	PerCommand []string
	Ignored    []string // prefixes of other programs' variables, which are never reported as unknown; if nil, none is reported
}

// warnUnknown writes a note about each variable that has the prefix but belongs to no flag of the program.
func (e *Env) warnUnknown(root *cobra.Command, w io.Writer) {
	var known []string
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, e.VariableOf(cmd, f.Name)) })
	}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		isIgnored := slices.ContainsFunc(e.Ignored, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if strings.HasPrefix(name, e.Prefix) && value != "" && !isIgnored && !slices.Contains(known, name) {
			fmt.Fprintf(w, "%s: note: no flag uses the environment variable %s%s\n", root.Name(), name, textfmt.Hint(name, known))
		}
	}
}

// Variable returns the name of a flag's environment variable.
func (e *Env) Variable(flag string) string {
	return e.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// VariableOf is like Variable, but includes the command's name if PerCommand lists the command's flag.
func (e *Env) VariableOf(cmd *cobra.Command, flag string) string {
	if slices.Contains(e.PerCommand, cmd.Name()+" "+flag) {
		flag = cmd.Name() + "-" + flag
	}
	return e.Variable(flag)
}

// Apply sets each flag that is missing from the command line to the value of its variable. An empty
// variable counts as unset.
func (e *Env) Apply(cmd *cobra.Command) error {
	onCommandLine := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { onCommandLine[f.Name] = true })
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, excludes := os.Getenv(e.VariableOf(cmd, f.Name)), slices.Concat(e.Excludes[f.Name], e.Excludes[cmd.Name()+" "+f.Name])
		if err != nil || value == "" || f.Name == "help" || f.Name == "version" || onCommandLine[f.Name] || slices.ContainsFunc(excludes, func(other string) bool { return onCommandLine[other] }) {
			return
		}
		values := []string{value}
		if slices.Contains(e.Lists, f.Name) {
			values = strings.Fields(value)
		}
		for _, v := range values {
			setErr := cmd.Flags().Set(f.Name, v)
			if setErr == nil {
				Must(cmd.Flags().SetAnnotation(f.Name, fromVariable, []string{}))
				continue
			}
			if cause := errors.Unwrap(setErr); cause != nil {
				setErr = cause // without the flag's name, which the user did not type
			}
			err = Usagef("the environment variable %s=%q: %w", e.VariableOf(cmd, f.Name), value, valueError(f, v, setErr))
			return
		}
	})
	return err
}

const fromVariable = "partd from variable" // annotation of a flag that Env.Apply set

// IsFromVariable reports whether an environment variable set a flag. If such a flag does not apply, commands ignore it
// rather than fail, because a variable is meant for many commands.
func IsFromVariable(f *pflag.Flag) bool { return f.Annotations[fromVariable] != nil }

// ProgressFlag adds the --progress flag to a command.
func ProgressFlag(cmd *cobra.Command) *string {
	value := cmd.Flags().String("progress", "auto", "show progress: `WHEN` is auto (on a terminal), always or never")
	Complete(cmd, "progress", "auto", "always", "never")
	return value
}

// Experimental marks flags of a command as experimental in its help or, if flags is empty, the whole command.
// docs/versions.md lists both.
func Experimental(cmd *cobra.Command, flags ...string) {
	if len(flags) == 0 {
		cmd.Long += "\n\nExperimental: it may change in any minor version."
	}
	for _, name := range flags {
		cmd.Flags().Lookup(name).Usage += " (experimental)"
	}
}

// AddFlag adds a flag to a command. Completion offers the suggestions or, if they are nil, the shell's default.
func AddFlag(cmd *cobra.Command, value pflag.Value, name, usage string, suggestions []string) {
	f := cmd.Flags().VarPF(value, name, "", usage)
	if value.Type() == "bool" {
		f.NoOptDefVal = "true"
	}
	if suggestions != nil {
		Complete(cmd, name, suggestions...)
	}
}

// CheckProgress validates the value of --progress.
func CheckProgress(value string) error {
	if value != "auto" && value != "always" && value != "never" {
		return Usagef("--progress must be auto, always or never, not %q", value)
	}
	return nil
}

// ShowsProgress reports whether to show progress on w, given the value of --progress.
func ShowsProgress(value string, w io.Writer) bool {
	return value == "always" || value == "auto" && progress.IsTerminal(w)
}
