package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

func newImport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --from shoots|pystore [flags] [--] SOURCE",
		Short: "Import tables from shoots or pystore",
		Long: `Import all tables, with their metadata, from the directory SOURCE: the --bucket_dir
of shoots, or one pystore store. A pystore collection becomes a bucket; the items of
a snapshot become the tables of a bucket COLLECTION@SNAPSHOT. SOURCE is not changed.

After importing a table, the command reads it back and checks that its row count and
an order-independent checksum match those of SOURCE. Existing tables with the same
rows are left unchanged, so it is safe to repeat the command. An existing table with
different rows is an error.`,
		Example: `  partd-tables import --from shoots ./buckets
  partd-tables import --from pystore ~/pystore/mystore --dir tables`,
	}
	p := locationFlags(cmd, allBucketsUsage)
	cmd.ValidArgsFunction = nil // arguments are files
	from := cmd.Flags().String("from", "", "`PROGRAM` that wrote SOURCE: shoots or pystore")
	progressMode := cliutil.ProgressFlag(cmd)
	cliutil.Complete(cmd, "from", "shoots", "pystore")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		find, ok := sources[*from]
		if !ok {
			return cliutil.Usagef("--from %q: use shoots or pystore", *from)
		}
		if err := cliutil.CheckProgress(*progressMode); err != nil {
			return err
		}
		toImport, err := find(args[0])
		if err != nil {
			return err
		}
		var bytesRead atomic.Int64
		bar := progress.Start(a.errOut, cliutil.ShowsProgress(*progressMode, a.errOut))
		defer bar.Stop()
		bar.Count(-1, bytesRead.Load)
		ctx := cmd.Context()
		return p.withBackend(ctx, true, func(s backend) error {
			var differences error
			for _, src := range toImport {
				if b := p.requestedBuckets(cmd); b != nil && b[0] != src.bucket {
					continue
				}
				state, sum, err := importTable(ctx, s, src, &bytesRead)
				if errors.Is(err, errDifferentRows) {
					differences = errors.Join(differences, err)
					continue
				} else if err != nil {
					return fmt.Errorf("%s in bucket %s: %w", displayName(src.name), displayName(src.bucket), err)
				}
				_, err = fmt.Fprintf(a.out, "%s\t%s\t%s\t%s\t%s\n", state, cell(src.bucket), cell(src.name), count(sum.Rows, "row"), sum)
				if err != nil {
					return err
				}
			}
			return differences
		})
	}
	return cmd
}

var errDifferentRows = errors.New("the table already exists and has different rows: delete it, or import into another directory")

// importTable puts a table unless it exists. It then checks that the table has the source's rows.
func importTable(ctx context.Context, s backend, src source, bytesRead *atomic.Int64) (state string, sum *content.RowSum, err error) {
	_, _, err = s.Describe(ctx, src.bucket, src.name, nil)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return "", nil, err
	}
	state = "unchanged"
	sourceSum := &content.RowSum{}
	r, err := src.open(ctx, bytesRead)
	if err == nil && missing {
		state = "imported"
		counted := &batches.Counted{RecordReader: r, OnBatch: sourceSum.Add}
		_, err = s.Put(ctx, src.bucket, src.name, counted, tables.PutError, &tables.PutOptions{Metadata: src.metadata})
		r.Release()
	} else if err == nil {
		sourceSum, err = content.SumRows(ctx, r, nil)
	}
	if err != nil {
		return "", nil, err
	}
	r, err = s.Scan(ctx, src.bucket, src.name, nil, nil)
	tableSum, err := content.SumRows(ctx, r, err)
	switch {
	case err != nil:
		return "", nil, err
	case tableSum.Equals(sourceSum):
		return state, tableSum, nil
	case state == "unchanged":
		return "", nil, fmt.Errorf("%s in bucket %s: %w", displayName(src.name), displayName(src.bucket), errDifferentRows)
	}
	return "", nil, fmt.Errorf("the imported table is not correct: %d rows with checksum %s were put, but %d rows with checksum %s were read; import it again", sourceSum.Rows, sourceSum, tableSum.Rows, tableSum)
}

// open returns a reader of the source's files, one after another.
func (s source) open(ctx context.Context, bytesRead *atomic.Int64) (array.RecordReader, error) {
	return formats.ReadFiles(ctx, s.files, func(path string) (*formats.Input, error) {
		f, err := os.Open(path)
		return &formats.Input{Name: path, File: f, Format: formats.Parquet(), Count: func(n int) { bytesRead.Add(int64(n)) }}, err
	})
}

func newExport(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [flags] [--] TARGET",
		Short: "Write each table as one Parquet file",
		Long: `Write each table as one Parquet file in the directory TARGET: TARGET/NAME.parquet,
or TARGET/BUCKET/NAME.parquet for a table in a bucket. In file names, characters other
than letters, digits and "-_.() " become %XX. A file appears only when it is complete.`,
		Example: "  partd-tables export ./parquet\n  partd-tables export ./parquet --bucket NASDAQ --force",
	}
	p := readFlags(cmd, allBucketsUsage)
	cmd.ValidArgsFunction = nil // arguments are files
	force := cmd.Flags().Bool("force", false, "replace existing files")
	return p.command(cmd, func(ctx context.Context, s backend, args []string) error {
		return forEachTable(ctx, s, p.requestedBuckets(cmd), tables.Filter{}, func(info tables.TableInfo) error {
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
				return suggestForce(err)
			}
			_, err = fmt.Fprintln(a.out, path)
			return err
		})
	})
}

// exportPath returns the path of a table's file below dir. No two tables share a path.
func exportPath(dir, bucket, name string) string {
	const extension, maxLength = ".parquet", 255
	scheme := names.Scheme{FoldsCase: runtime.GOOS == "darwin"}
	file := scheme.Name(name) + extension
	if len(file) > maxLength {
		file = names.Hashed(name) + extension
	}
	if bucket == "" {
		return filepath.Join(dir, file)
	}
	return filepath.Join(dir, scheme.Name(bucket), file)
}
