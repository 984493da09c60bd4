package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/progress"
)

// progressFlag adds --progress.
func progressFlag(cmd *cobra.Command) *string {
	when := cmd.Flags().String("progress", "auto", "show progress: `WHEN` is auto (on a terminal), always or never")
	complete(cmd, "progress", "auto", "always", "never")
	return when
}

func checkProgress(when string) error {
	if when != "auto" && when != "always" && when != "never" {
		return usagef("--progress is auto, always or never, not %q", when)
	}
	return nil
}

// showsProgress tells whether progress is shown where errors go.
func showsProgress(when string, w io.Writer) bool {
	return when == "always" || when == "auto" && progress.IsTerminal(w)
}
