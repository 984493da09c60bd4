package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/filejobs"
)

const distinctHelp = `Read files, and write the first record of each value of the fields of --by, or,
without --by, of records that are the same byte for byte. The records keep the
order of the input, after the header. Any number of them will do: what does not
fit in memory goes to temporary files.

Fields are compared as bytes, and from jsonl to jsonl by their type, too. A
missing value (an empty field; null or no member in jsonl) is a value like others.

At the end the records written and skipped are compared with those read.`

func newDistinct(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "distinct [--by F[,F…]] [flags] [--] FILE…",
		Short: "Leave out duplicate records",
		Long:  distinctHelp + formatsHelp,
		Example: `  partd distinct log-1.csv log-2.csv
  partd distinct --by user -o first-visits.csv visits-*.csv.gz
  partd distinct --by=-1 list.txt`,
	}
	by := cmd.Flags().String("by", "", "the fields `F,…` to compare (default: the whole record)")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) { return filejobs.Distinct(*by), nil })
	completeFields(cmd, "by", in)
	return cmd
}
