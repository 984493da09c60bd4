package cli

import (
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// variable returns the name of the environment variable of a flag.
func variable(flag string) string {
	return "PARTD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// nameVariables writes the variable of each flag into the help.
func nameVariables(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		f.Usage += " [$" + variable(f.Name) + "]"
	})
}

// rivals are flags of which one excludes the other. One on the command line
// goes before the other's variable, too.
var rivals = map[string]string{"append": "replace", "replace": "append"}

// setFromEnv sets the flags that the command line leaves out from their
// variables. An empty variable counts as not set.
func setFromEnv(cmd *cobra.Command) error {
	given := map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(variable(f.Name))
		if err != nil || value == "" || f.Name == "help" || f.Name == "version" || given[f.Name] || given[rivals[f.Name]] {
			return
		}
		if e := cmd.Flags().Set(f.Name, value); e != nil {
			if cause := errors.Unwrap(e); cause != nil {
				e = cause // without the name of the flag, which nobody wrote
			}
			err = usagef("the environment variable %s=%q: %w", variable(f.Name), value, valueError(f, value, e))
		}
	})
	return err
}
