package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/remote"
)

func newNamespaces(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "namespaces [flags]",
		Short: "List the namespaces of a server and their sizes",
		Long: `List the namespaces of a partd-server, the bytes that each uses on disk, and
when it was last used. If the server has users, it lists only namespaces in
which the user has the admin right.`,
		Example: `  partd namespaces --store tcp://127.0.0.1:7077
  partd namespaces --store 'tls://partd.example:7077?token-file=admin.token'`,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withReading(cmd.Context(), *url, func(store partd.Partd) error {
			server, ok := store.(interface {
				Namespaces(context.Context) ([]remote.NamespaceInfo, error)
			})
			if !ok {
				return cliutil.Usagef("--store %s is not a server: use tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH", *url)
			}
			list, err := server.Namespaces(cmd.Context())
			if err != nil {
				return err
			}
			records := make([]namespaceRecord, len(list))
			for i, n := range list {
				records[i] = namespaceRecord{n.Name, n.DiskBytes, n.LastUsed}
			}
			return writeResult(a.out, *asJSON, map[string]any{"namespaces": records}, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				for _, n := range list {
					fmt.Fprintf(t, "%s\t%s\t%s\n", n.Name, withUnit(n.DiskBytes), n.LastUsed.Format(time.DateTime))
				}
				_ = t.Flush() // w keeps the error, which writeResult returns
			})
		})
	}
	return cmd
}

type namespaceRecord struct {
	Name string    `json:"name"`
	Disk int64     `json:"disk"`
	Used time.Time `json:"used"`
}
