package cliutil

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/progress"
)

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
