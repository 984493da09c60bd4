package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

const topHelp = `Read files, and write the first N records that "partd sort --by F:desc" would
write: those with the greatest values of the field F, the greatest first, and of
records equal in F those that come first in the input. :n compares numbers, :asc
writes the least, as in --by price:n:asc; separate several fields by commas.
Missing values come last, with :asc first.

With --per G the first N records of each value of the field G, or of several
fields, are written, group by group, in the order of G as bytes. Records without
G are a group.

With --frequent F records are counted by the value of F, or of several fields, and
the N most frequent values are written with their counts, as F,count. Of equally
frequent values, those that are less as bytes come first.

N may be large, and the input may have any number of values: what does not fit in
memory goes to temporary files.

At the end the records written and skipped are compared with those read.`

func newTop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top --by F[:n][:asc][,F…] [--per G[,G…]] | --frequent F[,F…] [flags] [--] FILE…",
		Short: "Write the records with the greatest values, or the most frequent values",
		Long:  topHelp + formatsHelp,
		Example: `  partd top --by "size:n" files.csv
  partd top -n 2 --per id6 --by v3:n measured.csv
  partd top -n 100 --frequent "Origin State" birdstrikes.csv
  partd top -n 3 --by 2:n:asc --no-header --format csv -`,
	}
	by := cmd.Flags().String("by", "", "the fields `F,…` whose greatest values are wanted, each with :n, :asc or both")
	per := cmd.Flags().String("per", "", "the fields `G,…` that make a group, whose first records are wanted each")
	frequent := cmd.Flags().String("frequent", "", "the fields `F,…` whose most frequent values are wanted")
	n := cmd.Flags().IntP("number", "n", 10, "how many, `N`")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		switch {
		case (*by == "") == (*frequent == ""):
			return nil, cliutil.Usagef("give either --by or --frequent, with the fields to rank by")
		case *per != "" && *by == "":
			return nil, cliutil.Usagef("--per goes with --by: partd group counts the values of each group")
		case *n < 1 || *n > filejobs.MaxTop:
			return nil, cliutil.Usagef("--number is from 1 to %d, not %d; partd sort and partd group write all", filejobs.MaxTop, *n)
		case *per != "":
			return filejobs.TopPer(*by, *per, *n), nil
		case *by != "":
			return filejobs.Top(*by, *n), nil
		}
		return filejobs.Frequent(*frequent, *n), nil
	})
	completeFields(cmd, "by", in)
	completeFields(cmd, "per", in)
	completeFields(cmd, "frequent", in)
	return cmd
}
