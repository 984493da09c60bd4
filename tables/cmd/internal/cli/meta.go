package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

func newMeta(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "meta",
		Short: "Read and change the metadata of tables and buckets",
		Long: `Read and change the metadata of tables and buckets, and find tables by metadata. A VALUE that
is valid JSON, such as 5, true, "5" or [1,2], is stored as JSON. Any other VALUE is stored as text.`,
		Example: "  partd-tables meta set AAPL source=feed\n  partd-tables meta find source=feed",
	}
	cmd.AddCommand(newMetaGet(a), newMetaSet(a), newMetaFind(a))
	return cmd
}

func parseAssignments(args []string) (tables.Metadata, error) {
	m := tables.Metadata{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, cliutil.Usagef("%q does not have the form KEY=VALUE", arg)
		}
		m[key] = value
		if json.Valid([]byte(value)) {
			m[key] = json.RawMessage(value)
		}
	}
	return m, nil
}

func newMetaGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get [flags] [--] [NAME]",
		Short:   "Print the metadata of a table or a bucket",
		Long:    `Print the metadata of a table or, without NAME, of the bucket.`,
		Example: "  partd-tables meta get AAPL --bucket NASDAQ\n  partd-tables meta get --bucket NASDAQ --json",
	}
	p := readFlags(cmd, tableBucketUsage)
	state := stateFlags(cmd)
	asJSON := cmd.Flags().Bool("json", false, "write one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if state() != nil && len(args) == 0 {
			return cliutil.Usagef("--version and --snapshot need a NAME: for the metadata of a bucket in a snapshot, use snapshot list")
		}
		return p.withBackend(ctx, false, func(s backend) (err error) {
			var m tables.Metadata
			if len(args) == 0 {
				m, err = operations.BucketMetadata.Do(ctx, s.Target, &operations.Bucket{Bucket: *p.bucket})
			} else {
				var info tables.TableInfo
				info, _, err = s.Describe(ctx, *p.bucket, args[0], state())
				m = info.Metadata
			}
			if err != nil {
				return err
			}
			if *asJSON {
				if m == nil {
					m = tables.Metadata{}
				}
				return cliutil.NewEncoder(a.out).Encode(m)
			}
			type line struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			}
			return printList(a.out, false, slices.Sorted(maps.Keys(m)), func(key string) line { return line{key, metadataText(m[key])} })
		})
	}
	return cmd
}

func newMetaSet(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set [flags] [--] [NAME] KEY=VALUE…",
		Short: "Change the metadata of a table or a bucket",
		Long: `Set KEYs in the metadata of a table or, with --of-bucket, of the bucket. With --of-bucket, a
missing bucket is created, even without KEY=VALUE.`,
		Example: `  partd-tables meta set AAPL source=feed lots=100 --bucket NASDAQ
  partd-tables meta set --of-bucket 'hours={"open":"09:30"}' --bucket NASDAQ
  partd-tables meta set AAPL --remove source --bucket NASDAQ`,
		Args: cliutil.CheckArgCount(0, -1, ""),
	}
	p := locationFlags(cmd, tableBucketUsage)
	fs := cmd.Flags()
	ofBucket := fs.Bool("of-bucket", false, "change the metadata of the bucket itself, not of a table")
	remove := fs.StringArray("remove", nil, "remove this `KEY`; may be repeated")
	replace := fs.Bool("replace", false, "remove all keys that are not set by KEY=VALUE")
	return operationCommand(cmd, p, operations.ChangeMetadata, func(args []string) (*operations.Metadata, error) {
		metadata := &operations.Metadata{Bucket: *p.bucket}
		if !*ofBucket {
			if len(args) == 0 || args[0] == "" {
				return nil, cliutil.Usagef("name a table, or use --of-bucket")
			}
			metadata.Name, args = args[0], args[1:]
		}
		values, err := parseAssignments(args)
		if err != nil {
			return nil, err
		}
		if len(values) == 0 && len(*remove) == 0 && !*replace && !*ofBucket {
			return nil, cliutil.Usagef("nothing to change: use KEY=VALUE, --remove KEY or --replace")
		}
		metadata.MetadataChange = tables.MetadataChange{Set: values, Remove: *remove, Replace: *replace}
		return metadata, nil
	}, printNothing)
}

func newMetaFind(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "find [flags] [--] KEY=VALUE…",
		Short: "Find tables by their metadata",
		Long: `List the tables whose metadata contains all these values, in all buckets or in the bucket given
by --bucket.`,
		Example: "  partd-tables meta find source=feed lots=100 --bucket NASDAQ --json",
	}
	p := readFlags(cmd, allBucketsUsage)
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each table")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		metadata, err := parseAssignments(args)
		if err != nil {
			return err
		}
		return a.list(cmd, p, tables.Filter{Metadata: metadata}, *asJSON)
	}
	return cmd
}
