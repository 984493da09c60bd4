package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

type tableLine struct {
	Bucket  string         `json:"bucket"`
	Name    string         `json:"name"`
	Rows    rowCount       `json:"rows"`
	Bytes   int64          `json:"bytes"`
	Files   int64          `json:"files"`
	Version tables.Version `json:"version"`
	Updated string         `json:"updated"`
	AtMost  tables.AtMost  `json:"rows_exact,omitzero"`
	Damaged string         `json:"damaged,omitempty"` // why the table cannot be read
}

func newTableLine(i tables.TableInfo) tableLine {
	if i.Damaged != "" {
		i.Damaged = "damaged: " + i.Damaged
	}
	return tableLine{i.Bucket, i.Name, rowCount{i.Rows, i.AtMost}, i.Bytes, i.Files, i.Version, timeText(i.Updated), i.AtMost, i.Damaged}
}

// rowCount is a number of rows. Its text says if the number is only an upper bound.
type rowCount struct {
	n      int64
	atMost tables.AtMost
}

func (c rowCount) MarshalJSON() ([]byte, error) { return json.Marshal(c.n) }

func (c rowCount) String() string {
	if c.atMost {
		return fmt.Sprint("at most ", c.n)
	}
	return strconv.FormatInt(c.n, 10)
}

func newList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [flags] [--] [PATTERN]",
		Short: "List tables",
		Long: `List the tables of all buckets, or of the bucket given by --bucket. Row counts include rows that
are not yet in files (see "partd-tables fold --help"). In PATTERN, * matches any characters, ?
matches one character, and [a-z] matches one character in this range. A table that list cannot
read is shown as damaged. To find all damaged files, use "partd-tables verify": list does not
read most files.`,
		Example: `  partd-tables list
  partd-tables list 'BRK*' --bucket NYSE --json`,
	}
	p := readFlags(cmd, allBucketsUsage)
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each table")
	snapshot := cmd.Flags().String("snapshot", "", "list the tables in this `SNAPSHOT` of the bucket")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter := tables.Filter{Snapshot: *snapshot}
		if *snapshot != "" && p.requestedBuckets(cmd) == nil {
			return cliutil.Usagef("--snapshot needs --bucket (for the default bucket, use --bucket \"\")")
		}
		if len(args) > 0 {
			filter.Pattern = args[0]
		}
		return a.list(cmd, p, filter, *asJSON)
	}
	return cmd
}

func (a *app) list(cmd *cobra.Command, p location, filter tables.Filter, asJSON bool) error {
	ctx := cmd.Context()
	return p.withBackend(ctx, false, func(s backend) error {
		return printRecords(a.out, asJSON, func(emit func(tableLine) error) error {
			return forEachTable(ctx, s, p.requestedBuckets(cmd), filter, func(i tables.TableInfo) error { return emit(newTableLine(i)) })
		})
	})
}

func newBuckets(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "buckets [flags]",
		Short:   "List buckets that contain tables",
		Long:    `List buckets that contain tables. The name of the default bucket is empty.`,
		Example: "  partd-tables buckets --json",
	}
	p := directoryFlags(cmd)
	p.readOnlyFlag()
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each bucket")
	return p.command(cmd, func(ctx context.Context, s backend, _ []string) error {
		e := cliutil.NewEncoder(a.out)
		for name, err := range operations.Buckets.Each(ctx, s.Target, &operations.None{}) {
			switch {
			case err != nil:
			case *asJSON:
				err = e.Encode(map[string]string{"bucket": name})
			default:
				_, err = fmt.Fprintln(a.out, displayName(name))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func newDelete(_ *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] [--] NAME…",
		Short: "Delete tables",
		Long: `Delete tables with all their versions. If one of the named tables does not exist, no table is
deleted.`,
		Example: "  partd-tables delete AAPL 'BRK.B' --bucket NASDAQ",
	}
	p := locationFlags(cmd, tableBucketUsage)
	return operationCommand(cmd, p, operations.Delete, func(args []string) (*operations.Names, error) {
		return &operations.Names{Bucket: *p.bucket, Names: args}, nil
	}, printNothing)
}

type columnLine struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

type describeLine struct {
	tableLine
	Schema     []columnLine    `json:"schema"`
	Metadata   tables.Metadata `json:"metadata"`
	Partitions []string        `json:"partitions"`

	Maintenance *tables.MaintenanceState `json:"maintenance,omitempty"` // nil for an earlier state, or if it cannot be read
}

func newDescribe(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe [flags] [--] NAME",
		Short: "Show the size, columns and metadata of a table",
		Long: `Show a table's size, columns and metadata, and its past and pending file maintenance (see
"partd-tables serve --help"). The column types are the Arrow types of the rows that were put.`,
		Example: "  partd-tables describe AAPL --bucket NASDAQ --json",
	}
	p := readFlags(cmd, tableBucketUsage)
	asJSON := cmd.Flags().Bool("json", false, "write one JSON object")
	selectedState := stateFlags(cmd)
	return p.command(cmd, func(ctx context.Context, s backend, args []string) error {
		var maintenance *tables.MaintenanceState
		if selectedState() == nil {
			if state, err := operations.Maintenance.Do(ctx, s.Target, &operations.Table{Bucket: *p.bucket, Name: args[0]}); err == nil {
				maintenance = &state
			}
		}
		info, schema, err := s.Describe(ctx, *p.bucket, args[0], selectedState())
		if err != nil {
			return err
		}
		line := describeLine{newTableLine(info), []columnLine{}, info.Metadata, []string{}, maintenance}
		if line.Metadata == nil {
			line.Metadata = tables.Metadata{}
		}
		for _, f := range schema.Fields() {
			line.Schema = append(line.Schema, columnLine{f.Name, f.Type.String(), f.Nullable})
		}
		if *asJSON {
			return cliutil.NewEncoder(a.out).Encode(line)
		}
		return printDescription(a.out, line)
	})
}

func printDescription(out io.Writer, line describeLine) error {
	type fact struct {
		Field string `json:"field"`
		Value string `json:"value"`
	}
	var facts []fact
	t := reflect.ValueOf(line.tableLine)
	for i := range t.NumField() - 2 { // without AtMost, which Rows shows, and Damaged: describing a damaged table fails
		facts = append(facts, fact{t.Type().Field(i).Tag.Get("json"), fmt.Sprint(t.Field(i))})
	}
	if m := line.Maintenance; m != nil {
		facts = append(facts, fact{"small_files", fmt.Sprint(m.SmallFiles)}, fact{"versions", fmt.Sprint(m.Versions)},
			fact{"metadata_bytes", fmt.Sprint(m.MetadataBytes)}, fact{"unused_bytes", fmt.Sprint(m.UnusedBytes)})
		for _, f := range []fact{{"maintained", timeText(m.Last)}, {"next_attempt", timeText(m.Next)}, {"not_maintained", m.Reason}} {
			if f.Value != "" && f.Value != timeText(time.Time{}) {
				facts = append(facts, f)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(line.Metadata)) {
		facts = append(facts, fact{"metadata " + k, metadataText(line.Metadata[k])})
	}
	for _, c := range line.Schema {
		facts = append(facts, fact{"column " + c.Name, c.Type})
	}
	return printList(out, false, facts, func(f fact) fact { return f })
}

type versionLine struct {
	Version   tables.Version `json:"version"`
	Time      string         `json:"time"`
	Operation string         `json:"operation"`
	Rows      rowCount       `json:"rows"`
	AtMost    tables.AtMost  `json:"rows_exact,omitzero"`
	User      string         `json:"user,omitempty"`
}

func newVersions(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "versions [flags] [--] NAME",
		Short: "List the versions of a table",
		Long: `List the versions of a table, oldest first. Rows that are not yet in files count as one version.
If a call to a server created the version, the last column is the name in the user's token. Only
admins see it. It is empty if a version contains small appends of several users (see
"partd-tables fold --help").`,
		Example: "  partd-tables versions AAPL --bucket NASDAQ --json",
	}
	p := readFlags(cmd, tableBucketUsage)
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each version")
	return operationCommand(cmd, p, operations.Versions, func(args []string) (*operations.Table, error) {
		return &operations.Table{Bucket: *p.bucket, Name: args[0]}, nil
	}, func(_ *operations.Table, all []tables.VersionInfo) error {
		return printList(a.out, *asJSON, all, func(v tables.VersionInfo) versionLine {
			return versionLine{v.Version, timeText(v.Time), v.Operation, rowCount{v.Rows, v.AtMost}, v.AtMost, v.User}
		})
	})
}
