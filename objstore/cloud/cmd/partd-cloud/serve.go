package main

import "github.com/spf13/cobra"

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
