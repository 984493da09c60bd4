package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
)

var env = &cliutil.Env{Prefix: "PARTD_", Rivals: map[string]string{"append": "replace", "replace": "append"}}

// variable returns the name of the environment variable of a flag.
func variable(flag string) string { return env.Variable(flag) }

// setFromEnv sets the flags that the command line leaves out from their
// variables.
func setFromEnv(cmd *cobra.Command) error { return env.Set(cmd) }
