package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
)

func usagef(format string, args ...any) error { return cliutil.Usagef(format, args...) }

func takes(least, most int, what string) cobra.PositionalArgs {
	return cliutil.Takes(least, most, what)
}

// complete makes the shell complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	cliutil.Complete(cmd, flag, values...)
}
