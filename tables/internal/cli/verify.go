package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/tables"
)

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [flags] [--] [NAME…]",
		Short: "Find damaged files, and repair them",
		Long: `Read all files of all tables, or of those named, in all versions and snapshots.
Compare them with their checksums, and Parquet files with the rows and bounds
in their manifests. Damaged or missing files are named, and make the exit code 1.

With --repair-from, a copy from another place of tables replaces a damaged
file, if it has the content that was written. Files that other programs wrote have no
checksum: they are read, and called unverified.`,
		Example: "  partd-tables verify\n  partd-tables verify AAPL --bucket NASDAQ --json\n  partd-tables verify --repair-from /mnt/backup",
	}
	fs := cmd.Flags()
	p := storeFlag(cmd, "dir", "the `DIR` of the tables")
	p.bucket = fs.String("bucket", "", anyBucket)
	asJSON := fs.Bool("json", false, "write a JSON object for each bad file")
	copies := storeFlag(cmd, "repair-from", "a `DIR` of tables with good copies of files")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		o := tables.VerifyOptions{Buckets: p.chosen(cmd)}
		if len(args) > 0 {
			o.Buckets, o.Tables = tables.Buckets{*p.bucket}, args
		}
		verify := func(s *tables.Store) error {
			var r tables.VerifyResult
			err := records(a.out, *asJSON, func(record func(tables.Finding) error) (err error) {
				var failed error
				o.Found = func(f tables.Finding) {
					if failed == nil {
						failed = record(f)
					}
				}
				if r, err = s.Verify(ctx, &o); err == nil {
					err = failed
				}
				return err
			})
			if err != nil {
				return err
			}
			if r.Damaged > 0 {
				err = fmt.Errorf("%d files are damaged", r.Damaged)
			}
			fmt.Fprintf(a.err, "%d tables, %d files with %d bytes read: %d damaged, %d repaired, %d unverified\n", r.Tables, r.Files, r.Bytes, r.Damaged, r.Repaired, r.Unverified)
			return err
		}
		return p.store(ctx, false, func(s *tables.Store) error {
			if *copies.dir == "" {
				return verify(s)
			}
			return copies.store(ctx, false, func(other *tables.Store) error {
				o.Repair = other.Copies()
				return verify(s)
			})
		})
	}
	return cmd
}
