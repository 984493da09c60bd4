// Command partd-cloud is partd for stores in buckets of S3 and Google Cloud Storage,
// too. See "partd-cloud --help".
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cli"
	"github.com/go-partd/partd/internal/servercli"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/objstore/cloud"
	"github.com/go-partd/partd/stores"
)

func main() {
	set := stores.NewSet(cloud.Schemes()...)
	if len(os.Args) > 1 && os.Args[1] == serveName { // which has flags and signals of its own
		os.Exit(servercli.MainWith(set, os.Args[2:]))
	}
	os.Exit(cli.MainWith(set, os.Args[1:], newSweep(set), newRemove(), newServe(), newPlan()))
}

// newSweep is the command that deletes what no longer counts.
func newSweep(set *stores.Set) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep --store URL",
		Short: "Delete what dead writers and drops left in a bucket",
		Long: `Delete segments of a store in a bucket that do not count, because a writer died
before it committed them or the store was dropped, and that are more than 24 hours
old. Others may use the store meanwhile.`,
		Example: "  partd-cloud sweep --store s3://bucket/prefix?region=eu-central-1",
		Args:    cobra.NoArgs,
	}
	url := cmd.Flags().String("store", "", "`URL` of the store")
	if err := cmd.MarkFlagRequired("store"); err != nil {
		panic(err) // the program is wrong
	}
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

// newPlan is the command that computes a page of what jobs take.
func newPlan() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Compute requests, seconds and dollars of jobs on many machines",
		Long: `Compute what jobs of 10 to 1,000 writers and readers cost, from the code that divides stores into
requests, and how much disk each reader takes (option disk of the store's URL). It prints
docs/cloud-plan.md.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Print(objstore.PlanPage())
			return err
		},
	}
}

const serveName = "serve"

// newServe says what [main] does where its name is the first word.
func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   serveName + " --store URL [FLAGS]",
		Short: "Run partd-server, whose store may be in a bucket",
		Long: `Run partd-server, whose --store may be in a bucket: "partd-cloud serve --help" has its
flags. What clients append is in the bucket once one of them has called Sync. A server
that is killed loses the rest, so it is for clients that then begin again, as Python's
partd_go.dask does: each of its processes has a server of its own.`,
		Example: "  partd-cloud serve --store s3://bucket/prefix --listen ipc:///run/user/1000/partd",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}
