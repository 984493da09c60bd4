package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
)

func newCompletion(a *app) *cobra.Command {
	cmd := cliutil.NewCompletion(a.out)
	cmd.Short = "Write a script that completes commands and flags in a shell"
	cmd.Long = `Write a script that completes partd's commands and flags, stores, keys and column
names when Tab is pressed in a shell. The examples switch it on in the shell that
runs. bash needs the package bash-completion, and that it has been loaded.`
	cmd.Example = `  source <(partd completion bash)
  source <(partd completion zsh)
  partd completion fish | source
  partd completion powershell | Out-String | Invoke-Expression`
	return cmd
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Long:    "Show the version of partd, and of Go that it was built with.",
		Example: "  partd version",
		Args:    takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, version())
			return err
		},
	}
}

// version returns what partd and Go it is.
func version() string {
	version, revision := "(devel)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return fmt.Sprintf("partd %s%s %s %s/%s", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
