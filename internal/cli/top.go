package cli

import (
	"github.com/spf13/cobra"
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
		Long:  topHelp + "\n\n" + formatsHelp,
		Example: `  partd top --by "size:n" files.csv
  partd top -n 100 --frequent "Origin State" birdstrikes.csv
  partd top -n 3 --by 2:n:asc --no-header --format csv -`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	fs := cmd.Flags()
	t := top{
		by:       fs.String("by", "", "the fields `F,…` whose greatest values are wanted, each with :n, :asc or both"),
		frequent: fs.String("frequent", "", "the fields `F,…` whose most frequent values are wanted"),
		n:        fs.IntP("number", "n", 10, "how many, `N`"),
	}
	out := newOutputFlags(cmd)
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	completeFields(cmd, "by", &in)
	completeFields(cmd, "frequent", &in)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case (*t.by == "") == (*t.frequent == ""):
			return usagef("give --by or --frequent, one of them: which fields are the top of what?")
		case *t.n < 1 || *t.n > mostTop:
			return usagef("--number is from 1 to %d, not %d; partd sort and partd group write all", mostTop, *t.n)
		}
		return runFiles(cmd, a, args, &in, &out, &t, false)
	}
	return cmd
}
