package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const topHelp = `Read files and write the first N records that "partd sort --by F:desc" would
write: those with the largest values of the field F, largest first. Among
records equal in F, the first in the input are written. :n compares numbers, and
:asc writes the smallest values, as in --by price:n:asc. Separate several fields
by commas. Missing values come last, or first with :asc.

With --per G, write the first N records for each value of the field G, or of
several fields. The groups are sorted by G, compared as bytes. Records without G
form a group.

With --frequent F, count the records for each value of F, or of several fields,
and write the N most frequent values with their counts, as F,count. Equally
frequent values are sorted as bytes.

N may be large, and the number of values is not limited: data that does not fit
in memory goes to temporary files.

At the end, the command checks that it wrote or dropped every record it read.`

func newTop(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top --by F[:n][:asc][,F…] [--per G[,G…]] | --frequent F[,F…] [flags] [--] FILE…",
		Short: "Write the records with the largest values, or the most frequent values",
		Long:  topHelp + formatsHelp,
		Example: `  partd top --by "size:n" files.csv
  partd top -n 2 --per id6 --by v3:n measured.csv
  partd top -n 5 --frequent "after(file, '.', -1)" --where "size > 0" files.csv
  partd top -n 100 --frequent "Origin State" birdstrikes.csv
  partd top -n 3 --by 2:n:asc --no-header --format csv -`,
	}
	by := cmd.Flags().String("by", "", "rank records by these `FIELDS`, separated by commas, each with :n, :asc or both")
	per := cmd.Flags().String("per", "", "write the first records of each group of these `FIELDS`, separated by commas")
	frequent := cmd.Flags().String("frequent", "", "write the most frequent values of these `FIELDS`, separated by commas")
	n := cmd.Flags().IntP("number", "n", 10, "write `N` records or values")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		switch {
		case (*by == "") == (*frequent == ""):
			return nil, cliutil.Usagef("set either --by or --frequent to the fields to rank by")
		case *per != "" && *by == "":
			return nil, cliutil.Usagef("--per needs --by: to count the values of each group, use partd group")
		case *n < 1 || *n > filejobs.MaxTop:
			return nil, cliutil.Usagef("--number must be from 1 to %d, not %d: to write all, use partd sort or partd group", filejobs.MaxTop, *n)
		case *per != "":
			return filejobs.TopPer(*by, *per, *n), nil
		case *by != "":
			return filejobs.Top(*by, *n), nil
		}
		return filejobs.Frequent(*frequent, *n), nil
	})
	completeFields(cmd, "per", in)
	completeFields(cmd, "frequent", in)
	return cmd
}
