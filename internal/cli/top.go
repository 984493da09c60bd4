package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

const topHelp = `Read files, and write the first N records that "partd sort --by F:desc" would
write: those with the greatest values of the field F, the greatest first, and of
records that are the same in F those that come first in the input. :n compares
numbers, :asc writes the least, as in --by price:n:asc; several fields may stand
between commas. Missing values come last, with :asc first.

With --frequent F the records are counted by the value of F, or of several fields,
and the N most frequent values are written with their counts, as F,count. Of
values as frequent, those come first that are less as bytes.

N may be large, and the input have any number of values: what does not fit the
memory goes to temporary files.

At the end the records written and those left out are compared with those read.`

func newTop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top --by F[:n][:asc][,F…] | --frequent F[,F…] [flags] [--] FILE…",
		Short: "Write the records with the greatest values, or the most frequent values",
		Long:  topHelp + formatsHelp,
		Example: `  partd top --by "size:n" files.csv
  partd top -n 100 --frequent "Origin State" birdstrikes.csv
  partd top -n 3 --by 2:n:asc --no-header --format csv -`,
	}
	by := cmd.Flags().String("by", "", "the fields `F,…` whose greatest values are wanted, each with :n, :asc or both")
	frequent := cmd.Flags().String("frequent", "", "the fields `F,…` whose most frequent values are wanted")
	n := cmd.Flags().IntP("number", "n", 10, "how many, `N`")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		switch {
		case (*by == "") == (*frequent == ""):
			return nil, cliutil.Usagef("give --by or --frequent, one of them: which fields are the top of what?")
		case *n < 1 || *n > filejobs.MaxTop:
			return nil, cliutil.Usagef("--number is from 1 to %d, not %d; partd sort and partd group write all", filejobs.MaxTop, *n)
		case *by != "":
			return filejobs.Top(*by, *n), nil
		}
		return filejobs.Frequent(*frequent, *n), nil
	})
	completeFields(cmd, "by", in)
	completeFields(cmd, "frequent", in)
	return cmd
}
