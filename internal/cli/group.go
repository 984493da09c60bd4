package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

const groupHelp = `Read files, and write one row for each value of the field F, or of several fields
between commas: the fields, and what the aggregates make of the records with
these values. The rows are sorted by the fields, as bytes. Any number of groups
will do: what does not fit the memory goes to temporary files.

Aggregates, between commas; x is the name or number of a field:
  count        how many records; count(x): how many of them have an x
  sum(x)       of numbers. Integers of up to 27 digits are exact, however many;
               other numbers are 64-bit floating point, and their sum is
               compensated (Neumaier)
  mean(x)      of numbers, also avg(x)
  min(x) max(x)      the least and greatest number, compared exactly; min(x:b) and
               max(x:b) compare any text as bytes
  stddev(x)    the sample standard deviation of numbers, none of fewer than two
  first(x) last(x)   the value in the first and the last record of the group
  distinct(x)  how many different values, as bytes; also count_distinct(x)
  list(x)      all values, in the order of the input: for jsonl an array, else
               joined with ; (a value that holds ; or quotes or a line ending is
               quoted as in csv). A list may be larger than memory

An empty field is a missing value, as null and a missing member are in jsonl. The
rules are SQL's: all aggregates but count, first, last and list leave missing
values out, a sum of nothing is missing and not 0, and records that lack F are a
group. A value that should be a number and is none is an error with file and line,
or left out and counted with --skip-bad.

The fields of F together may be as long as a thousandth of --memory, and 1 MiB at
most. Aggregates that are too many for --memory are an error that says how much
will do.

At the end the records read are compared with those that the groups stand for.`

func newGroup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group --by F[,F…] [--agg LIST] [flags] [--] FILE…",
		Short: "Aggregate the records of each value of a field",
		Long:  groupHelp + formatsHelp,
		Example: `  partd group --by "Origin State" birdstrikes.csv
  partd group --by user,day --agg "count,sum(bytes)" -o out.csv log-*.csv.gz
  partd group --by 2 --no-header --agg "mean(4),list(1)" --to-format jsonl a.csv`,
	}
	by := cmd.Flags().String("by", "", "the fields `F,…` to group by: names, or numbers from 1 or from the end")
	aggregates := cmd.Flags().String("agg", "count", "`LIST` of aggregates, as in count,sum(x)")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		if *by == "" {
			return nil, cliutil.Usagef("--by is missing: which fields make a group?")
		}
		return filejobs.Group(*by, *aggregates), nil
	})
	completeFields(cmd, "by", in)
	completeAggregates(cmd, in)
	return cmd
}
