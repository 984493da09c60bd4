package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

const groupHelp = `Read files, and write one row for each value of the field F, or of several fields
separated by commas: the fields, and the aggregates of the records with these
values. Rows are sorted by the fields, as bytes. Any number of groups will do:
what does not fit in memory goes to temporary files.

Aggregates, separated by commas; x and y are names or numbers of fields. An
aggregate of two arguments takes them as a line of CSV: quote a name that has a
comma.

Counts
  count        how many records; count(x): how many of them have an x
  distinct(x)  how many different values, as bytes; also count_distinct(x)
Numbers
  sum(x)       integers of up to 27 digits are exact, however many; other numbers
               are 64-bit floating point, and their sum is compensated (Neumaier)
  mean(x)      also avg(x)
  min(x) max(x)      the least and greatest number, compared exactly; min(x:b) and
               max(x:b) compare any text as bytes
  var(x) stddev(x)   the sample variance and standard deviation, missing for fewer
               than 2; also var_samp, variance, stddev_samp
  var_pop(x) stddev_pop(x)   those of a whole population
Order
  median(x)    the number in the middle, or the mean of the two there
  quantile(x,0.9)    the number that nine tenths are less than, interpolated, as
               SQL's percentile_cont; also quantile_cont. It is exact, and the
               numbers of a group may be more than fit in memory
  mode(x)      the most frequent value, as bytes; of several the least
Pairs of numbers, of records that have both
  corr(y,x)    the correlation
  covar(y,x)   the sample covariance, also covar_samp; covar_pop(y,x)
  regr_slope(y,x) regr_intercept(y,x) regr_r2(y,x)   of the line that predicts y
               from x by least squares
True and false (also t, yes, y, on, 1 and f, no, n, off, 0, in any case)
  bool_and(x) bool_or(x)     whether all are true, whether any is; also every(x)
Values
  first(x) last(x)   the value in the first and the last record of the group
  any(x)       a value that is not missing: the first; also any_value(x)
  list(x)      all values, in the order of the input: for jsonl an array, else
               joined with ; (a value that holds ; or quotes or a line ending is
               quoted as in csv). A list may be larger than memory

An empty field is a missing value, as are null and a missing member in jsonl. The
rules are SQL's: all aggregates but count, first, last and list skip missing
values, a sum of nothing is missing and not 0, and records without F are a group.
If all x are equal, there is no line and no correlation; if all y are, there is no
correlation. A value that should be a number, or true or false, and is not is an
error with file and line, or skipped and counted with --skip-bad.

--top N writes the N groups with the greatest value of the first aggregate, or of
the one that --top-by names, the greatest first; --top-by "sum(x):asc" is for the
least. Missing values come last, with :asc first. Equal ones stay in the order of
their fields. Values, as of first(x), are compared as bytes. --top goes with all
aggregates but list.

The fields of F together may be as long as a thousandth of --memory, and at most
1 MiB. Too many aggregates for --memory are an error that says how much they need.

At the end the records read are compared with those that the groups stand for.`

func newGroup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group --by F[,F…] [--agg LIST] [flags] [--] FILE…",
		Short: "Aggregate the records of each value of a field",
		Long:  groupHelp + formatsHelp,
		Example: `  partd group --by "Origin State" birdstrikes.csv
  partd group --by user,day --agg "count,sum(bytes)" -o out.csv log-*.csv.gz
  partd group --by user --agg "sum(bytes),count" --top 10 log.csv
  partd group --by id --agg "median(v),quantile(v,0.9),regr_r2(v,w)" points.csv
  partd group --by 2 --no-header --agg "mean(4),list(1)" --to-format jsonl a.csv`,
	}
	by := cmd.Flags().String("by", "", "the fields `F,…` to group by: names, or numbers from 1 or from the end")
	aggregates := cmd.Flags().String("agg", "count", "`LIST` of aggregates, as in count,sum(x)")
	n := cmd.Flags().Int("top", 0, "write only the `N` groups with the greatest value of an aggregate")
	topBy := cmd.Flags().String("top-by", "", "the `AGGREGATE` of --agg that --top compares, with :asc for the least (default: the first)")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		if *by == "" {
			return nil, cliutil.Usagef("--by is missing: give the fields to group by")
		}
		top := filejobs.GroupTop{N: *n, By: *topBy}
		switch {
		case *topBy != "" && *n == 0:
			return nil, cliutil.Usagef("--top-by goes with --top N: how many groups?")
		case cmd.Flags().Changed("top") && *n < 1 || *n > filejobs.MaxTop:
			return nil, cliutil.Usagef("--top is from 1 to %d, not %d; without it all groups are written", filejobs.MaxTop, *n)
		}
		return filejobs.Group(*by, *aggregates, top), nil
	})
	completeFields(cmd, "by", in)
	completeAggregates(cmd, in)
	return cmd
}
