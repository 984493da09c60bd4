// Command partd-cloud is the partd command, extended with stores in S3 and Google Cloud Storage
// buckets. See "partd-cloud --help".
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/stores"
)

func main() {
	set := stores.NewSet(cloud.Schemes()...)
	if len(os.Args) > 1 && os.Args[1] == serveName { // serve has its own flags and signal handling
		os.Exit(servercli.MainWith(set, os.Args[2:]))
	}
	os.Exit(cli.MainWith(set, os.Args[1:], newSweep(set), newRemove(), newServe()))
}

func newSweep(set *stores.Set) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep --store URL",
		Short: "Delete unused segments from a bucket",
		Long: `Delete unused segments of a store in a bucket. Segments are unused if their writer
died before it committed them, or if the store was dropped. Segments that are less
than 24 hours old stay. Other processes may use the store at the same time.`,
		Example: "  partd-cloud sweep --store s3://bucket/prefix?region=eu-central-1",
		Args:    cobra.NoArgs,
	}
	url := storeFlag(cmd, "`URL` of the store")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		store, err := set.Open(cmd.Context(), *url, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, partd.Close(cmd.Context(), store)) }()
		s, ok := store.(*cloud.Store)
		if !ok {
			return fmt.Errorf("--store %s is not in a bucket", *url)
		}
		swept, err := s.Sweep(cmd.Context())
		if err != nil {
			return err
		}
		fmt.Printf("deleted %d objects of %s\n%v\n", swept.Objects, stores.FormatSize(swept.Bytes), s.Requests())
		return nil
	}
	return cmd
}

// storeFlag adds the required flag --store to a command and returns a pointer to its value.
func storeFlag(cmd *cobra.Command, usage string) *string {
	url := cmd.Flags().String("store", "", usage)
	if err := cmd.MarkFlagRequired("store"); err != nil {
		panic(err)
	}
	return url
}

const serveName = "serve"

// newServe returns the serve command for the help only, because [main] runs serve itself.
func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   serveName + " --store URL [FLAGS]",
		Short: "Run partd-server, with a store that may be in a bucket",
		Long: `Run partd-server. Its --store may be in a bucket. "partd-cloud serve --help" lists its
flags. Appended data is in the bucket only after a client has called Sync. A server that
is killed loses the rest, so use it for clients that then start over, such as Python's
partd_go.dask, which runs one server for each of its processes.`,
		Example: "  partd-cloud serve --store s3://bucket/prefix --listen ipc:///run/user/1000/partd",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}
