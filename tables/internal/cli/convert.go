package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables/internal/formats"
)

func newConvert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert [flags] [--] FILE",
		Short: "Write the rows of a file in another format",
		Long: `Write the rows of a file in another format, without a table: to a terminal as aligned
columns, to a pipe as CSV, to a file in the format of its name or of --format. FILE is as in
put. Columns of CSV and JSON lines get types that fit all their values or, if the Arrow
file of --like has such columns, the types there.`,
		Example: "  partd-tables convert birdstrikes.csv -o birdstrikes.parquet\n  partd-tables convert more.csv --like birdstrikes.arrow -o more.parquet",
	}
	from := cmd.Flags().String("from", "", "the `FORMAT` of FILE: csv, jsonl, parquet or arrow")
	like := cmd.Flags().String("like", "", "an Arrow `FILE`, whose types columns of CSV and JSON lines get")
	cliutil.Complete(cmd, "from", formats.Names...)
	out := resultFlags(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.choose(); err != nil {
			return err
		}
		if _, err := formats.ByName(args[0]); err != nil && *from == "" {
			return cliutil.Usagef("%s: its name does not say what format it has: give --from, one of %s", args[0], strings.Join(formats.Names, ", "))
		}
		ctx := cmd.Context()
		in, _, err := a.input(args[0], formats.Format(*from))
		if err != nil {
			return err
		}
		defer in.File.Close() //nolint:errcheck // it was only read
		if *like != "" {
			known, _, err := a.input(*like, formats.Arrow)
			if err != nil {
				return err
			}
			defer known.File.Close() //nolint:errcheck // likewise
			r, err := known.Read(ctx)
			if err != nil {
				return err
			}
			defer r.Release()
			in.Known = r.Schema()
		}
		r, err := in.Read(ctx)
		return out.write(ctx, r, err)
	}
	return cmd
}
