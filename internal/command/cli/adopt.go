package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/stores"
)

func newAdopt(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt [flags] HOST:PORT",
		Short: "Readmit a server that lost its store, with an empty store",
		Long: `Let a server whose store was lost, for example with its disk, rejoin the servers
that share the keys of --store tcp://A,B,C. Its store must be empty. The other
servers keep their keys; the keys of this server are gone. All servers must be
running.

Until you do this, every command that needs this server fails, because the
server may just have been started with the wrong directory, or before its disk
was mounted.`,
		Example:           `  partd adopt --store tcp://a:7077,b:7077,c:7077 b:7077`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	url := storeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := storeSet(cmd.Context()).Adopt(cmd.Context(), *url, args[0])
		if errors.As(err, new(*stores.URLError)) {
			return cliutil.UsageError{Err: err}
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "%s is one of the servers again, with an empty store\n", args[0])
		return err
	}
	return cmd
}
