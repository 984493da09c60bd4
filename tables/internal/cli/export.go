package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/parquetfile"
)

func newExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [flags] [--] TARGET",
		Short: "Write each table as one Parquet file",
		Long: `Write each table as one Parquet file below the directory TARGET: TARGET/NAME.parquet,
or TARGET/BUCKET/NAME.parquet. Characters in names other than letters, digits and
"-_.() " become %XX. A file appears whole or not at all.`,
		Example: "  partd-tables export ./parquet\n  partd-tables export ./parquet --bucket NASDAQ --force",
	}
	p := placeFlags(cmd, anyBucket)
	cmd.ValidArgsFunction = nil // it names files
	force := cmd.Flags().Bool("force", false, "replace existing files")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return p.with(ctx, false, func(s backend) error {
			return each(ctx, s, p.chosen(cmd), tables.Filter{}, func(info tables.TableInfo) error {
				path := exportPath(args[0], info.Bucket, info.Name)
				if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
					return err
				}
				r, err := s.Scan(ctx, info.Bucket, info.Name, nil, nil)
				if err != nil {
					return err
				}
				defer r.Release()
				if _, err := parquetfile.Write(ctx, path, *force, r); err != nil {
					return forced(err)
				}
				_, err = fmt.Fprintln(a.out, path)
				return err
			})
		})
	}
	return cmd
}

// exportPath gives every table a path of its own, below the directory.
func exportPath(dir, bucket, name string) string {
	const extension, longest = ".parquet", 255
	scheme := names.Scheme{FoldsCase: runtime.GOOS == "darwin"}
	file := scheme.Name(name) + extension
	if len(file) > longest {
		sum := sha256.Sum256([]byte(name))
		file = "%h" + hex.EncodeToString(sum[:]) + extension // as package names does
	}
	if bucket == "" {
		return filepath.Join(dir, file)
	}
	return filepath.Join(dir, scheme.Name(bucket), file)
}
