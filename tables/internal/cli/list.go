package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
)

// tableLine describes a table to programs.
type tableLine struct {
	Bucket  string         `json:"bucket"`
	Name    string         `json:"name"`
	Rows    int64          `json:"rows"`
	Bytes   int64          `json:"bytes"`
	Files   int64          `json:"files"`
	Version tables.Version `json:"version"`
	Updated string         `json:"updated"`
}

func lineOf(i tables.TableInfo) tableLine {
	return tableLine{i.Bucket, i.Name, i.Rows, i.Bytes, i.Files, i.Version, timeText(i.Updated)}
}

// shown is a name for people: quoted if it is empty or no plain text.
func shown(name string) string {
	if cliutil.Plain(name) {
		return name
	}
	return strconv.Quote(name)
}

// columns writes lines with their fields below each other.
func columns(out io.Writer, write func(*tabwriter.Writer) error) error {
	buffered := bufio.NewWriter(out)
	w := tabwriter.NewWriter(buffered, 0, 0, 2, ' ', 0)
	return errors.Join(write(w), w.Flush(), buffered.Flush())
}

func newList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [flags] [--] [PATTERN]",
		Short: "List tables",
		Long: `List the tables of all buckets, or of one, with their rows, those not folded yet
among them. PATTERN selects names: * stands for any characters, ? for one, [a-z]
for one of a range.`,
		Example: `  partd-tables list
  partd-tables list 'BRK*' --bucket NYSE --json`,
		Args: cliutil.Takes(0, 1, ""),
	}
	p := placeFlags(cmd, anyBucket)
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each table")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter := &tables.Filter{}
		if len(args) > 0 {
			filter.Pattern = args[0]
		}
		ctx := cmd.Context()
		return p.with(ctx, false, func(s *tables.Store) error {
			return columns(a.out, func(w *tabwriter.Writer) error {
				e := encoder(w)
				if !*asJSON {
					fmt.Fprintln(w, "BUCKET\tNAME\tROWS\tBYTES\tFILES\tVERSION\tUPDATED")
				}
				return each(ctx, s, p.chosen(cmd), filter, func(i tables.TableInfo) error {
					if *asJSON {
						return e.Encode(lineOf(i))
					}
					_, err := fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", shown(i.Bucket), shown(i.Name), i.Rows, i.Bytes, i.Files, i.Version, timeText(i.Updated))
					return err
				})
			})
		})
	}
	return cmd
}

func newBuckets(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "buckets [flags]",
		Short:   "List the buckets that have tables",
		Long:    `List the buckets that have tables. The default bucket's name is empty.`,
		Example: "  partd-tables buckets --json",
		Args:    cliutil.Takes(0, 0, ""),
	}
	dir := cmd.Flags().String("dir", "partd-tables", "the `DIR` of the tables")
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each bucket")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		return place{dir: dir}.with(ctx, false, func(s *tables.Store) error {
			e := encoder(a.out)
			for name, err := range s.Buckets(ctx) {
				switch {
				case err != nil:
				case *asJSON:
					err = e.Encode(map[string]string{"bucket": name})
				default:
					_, err = fmt.Fprintln(a.out, shown(name))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

func newDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete [flags] [--] NAME…",
		Short:   "Delete tables",
		Long:    `Delete tables with all their versions: all of those named or, if one is missing, none.`,
		Example: "  partd-tables delete AAPL 'BRK.B' --bucket NASDAQ",
		Args:    cliutil.Takes(1, -1, "NAME"),
	}
	p := placeFlags(cmd, theBucket)
	cmd.ValidArgsFunction = p.completeTables
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return p.with(cmd.Context(), false, func(s *tables.Store) error { return s.Bucket(*p.bucket).Delete(cmd.Context(), args...) })
	}
	return cmd
}

type columnLine struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

func newDescribe(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "describe [flags] [--] NAME",
		Short:   "Show what is known of a table",
		Long:    `Show a table's figures, columns and metadata. The types are Arrow's, as they were put.`,
		Example: "  partd-tables describe AAPL --bucket NASDAQ --json",
		Args:    cliutil.Takes(1, 1, "NAME"),
	}
	p := placeFlags(cmd, theBucket)
	asJSON := cmd.Flags().Bool("json", false, "write one JSON object")
	cmd.ValidArgsFunction = p.completeTables
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return p.with(ctx, false, func(s *tables.Store) error {
			table, err := s.Bucket(*p.bucket).Table(ctx, args[0])
			if err != nil {
				return err
			}
			info, err := table.Info(ctx)
			if err != nil {
				return err
			}
			schema, err := table.Schema(ctx)
			if err != nil {
				return err
			}
			if *asJSON {
				return describeJSON(a.out, info, schema)
			}
			return describeText(a.out, info, schema)
		})
	}
	return cmd
}

func describeJSON(out io.Writer, info tables.TableInfo, schema *arrow.Schema) error {
	line := struct {
		tableLine
		Schema     []columnLine      `json:"schema"`
		Metadata   map[string]string `json:"metadata"`
		Partitions []string          `json:"partitions"`
	}{lineOf(info), []columnLine{}, info.Metadata, []string{}}
	if line.Metadata == nil {
		line.Metadata = map[string]string{}
	}
	for _, f := range schema.Fields() {
		line.Schema = append(line.Schema, columnLine{f.Name, f.Type.String(), f.Nullable})
	}
	return encoder(out).Encode(line)
}

func describeText(out io.Writer, info tables.TableInfo, schema *arrow.Schema) error {
	return columns(out, func(w *tabwriter.Writer) error {
		fmt.Fprintf(w, "bucket\t%s\nname\t%s\nrows\t%d\nbytes\t%d\nfiles\t%d\nversion\t%d\nupdated\t%s\n",
			shown(info.Bucket), shown(info.Name), info.Rows, info.Bytes, info.Files, info.Version, timeText(info.Updated))
		keys := make([]string, 0, len(info.Metadata))
		for k := range info.Metadata {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fmt.Fprintf(w, "metadata %s\t%s\n", shown(k), shown(info.Metadata[k]))
		}
		for _, f := range schema.Fields() {
			fmt.Fprintf(w, "column %s\t%s\n", shown(f.Name), f.Type)
		}
		return nil // the errors are those of Flush
	})
}

func newVersions(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "versions [flags] [--] NAME",
		Short:   "List the versions of a table",
		Long:    `List the versions of a table, oldest first. Rows that are not folded yet are in none.`,
		Example: "  partd-tables versions AAPL --bucket NASDAQ --json",
		Args:    cliutil.Takes(1, 1, "NAME"),
	}
	p := placeFlags(cmd, theBucket)
	asJSON := cmd.Flags().Bool("json", false, "write a JSON object for each version")
	cmd.ValidArgsFunction = p.completeTables
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return p.with(ctx, false, func(s *tables.Store) error {
			table, err := s.Bucket(*p.bucket).Table(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := table.Versions(ctx)
			if err != nil {
				return err
			}
			return columns(a.out, func(w *tabwriter.Writer) error {
				e := encoder(w)
				if !*asJSON {
					fmt.Fprintln(w, "VERSION\tTIME\tOPERATION\tROWS")
				}
				for _, v := range all {
					if *asJSON {
						err = e.Encode(struct {
							Version   tables.Version `json:"version"`
							Time      string         `json:"time"`
							Operation string         `json:"operation"`
							Rows      int64          `json:"rows"`
						}{v.Version, timeText(v.Time), v.Operation, v.Rows})
					} else {
						_, err = fmt.Fprintf(w, "%d\t%s\t%s\t%d\n", v.Version, timeText(v.Time), v.Operation, v.Rows)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	return cmd
}
