package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const distinctHelp = `Read files and write the first record for each value of the fields named by
--by. Without --by, records are equal if all their bytes are equal. The records
keep the order of the input, after the header. There can be any number of
records: data that does not fit in memory goes to temporary files.

Fields are compared as bytes. If input and output are both jsonl, equal values
also have the same type. A missing value (an empty field; null or no member in
jsonl) is a value like any other.

At the end, the command checks that it wrote or dropped every record it read.`

func newDistinct(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "distinct [--by F[,F…]] [flags] [--] FILE…",
		Short: "Remove duplicate records",
		Long:  distinctHelp + formatsHelp,
		Example: `  partd distinct log-1.csv log-2.csv
  partd distinct --by user -o first-visits.csv visits-*.csv.gz
  partd distinct --columns user,day visits.csv
  partd distinct --by=-1 list.txt`,
	}
	by := cmd.Flags().String("by", "", "compare these `FIELDS`, separated by commas (default: the whole record)")
	fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) { return filejobs.Distinct(*by), nil })
	return cmd
}
