package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/group"
)

const groupHelp = `Read files and write one row for each distinct value of the field F, or for each
combination of values if --by names several fields. Each row contains these
fields and the aggregates of all records with these values. Rows are sorted by
the fields, compared as bytes. The number of groups is not limited: data that
does not fit in memory goes to temporary files.

Separate aggregates with commas; x and y are field names or field numbers.
A name in double quotes is always a field name, never an expression such as
before(x, '/'). Quote names that contain a comma, as in sum("a, b"). "as NAME"
names the result, as in sum(x) as total, or sum(x) as "the total".

Counts
  count        number of records; count(x): number of records with an x
  distinct(x)  number of distinct values, compared as bytes; also
               count_distinct(x)
Numbers
  sum(x)       integers of up to 27 digits are summed exactly; other numbers are
               64-bit floating point with a compensated sum (Neumaier)
  mean(x)      also avg(x)
  min(x) max(x)      smallest and largest number, compared exactly; min(x:b) and
               max(x:b) compare any text as bytes
  var(x) stddev(x)   sample variance and standard deviation; no result for fewer
               than 2 values; also var_samp, variance, stddev_samp
  var_pop(x) stddev_pop(x)   variance and standard deviation of a population
Order
  median(x)    middle number, or the mean of the two middle numbers
  quantile(x,0.9)    number that is greater than nine tenths of the numbers,
               interpolated like SQL's percentile_cont; also quantile_cont. It is
               exact, even if the numbers of a group do not fit in memory
  mode(x)      most frequent value, compared as bytes; if several are equally
               frequent, the smallest of them
Pairs of numbers (records that lack one of them are skipped)
  corr(y,x)    correlation
  covar(y,x)   sample covariance; also covar_samp
  covar_pop(y,x)   covariance of a population
  regr_slope(y,x) regr_intercept(y,x) regr_r2(y,x)   slope, intercept and R² of
               the least-squares line that predicts y from x
Booleans (true, t, yes, y, on, 1; false, f, no, n, off, 0; upper or lower case)
  bool_and(x)  whether all values are true; also every(x)
  bool_or(x)   whether at least one value is true
Values
  first(x) last(x)   value in the first and the last record of the group
  any(x)       first value that is not missing; also any_value(x)
  list(x)      all values, in the order of the input: an array in jsonl, otherwise
               joined with ; (a value with ; or quotes or a line ending is quoted
               as in csv). A list may be larger than memory

An empty field is a missing value; so are null and a missing member in jsonl.
The rules are those of SQL: all aggregates except count, first, last and list
skip missing values, the sum of no values is missing, not 0, and records without
F form a group. The regression is missing if all x are equal; the correlation is
missing if all x or all y are equal. A value of the wrong type, such
as text in a sum, is an error that names its file and line; --skip-bad skips and
counts such records.

--top N writes the N groups with the largest value of the first aggregate, or of
the aggregate in --top-by, largest first. --top-by "sum(x):asc" writes the
smallest. Missing values come last, or first with :asc. Groups with equal values
are sorted by their fields. Values such as first(x) are compared as bytes.
--top supports all aggregates except list.

The --by fields of a record can together take up to a thousandth of --memory, but
at most 1 MiB. If --memory is too small for the aggregates, the error says how
much they need.

At the end, group checks that it aggregated as many records as it read.`

func newGroup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group --by F[,F…] [--agg LIST] [flags] [--] FILE…",
		Short: "Aggregate the records that have the same value in a field",
		Long:  groupHelp + formatsHelp,
		Example: `  partd group --by "Origin State" birdstrikes.csv
  partd group --by user,day --agg "count,sum(bytes) as b" -o out.csv log-*.csv.gz
  partd group --by user --agg "sum(bytes),count" --top 10 log.csv
  partd group --by "before(path, '/', -1),day(time)" --where "size > 0" files.csv
  partd group --by user --agg "sum(bytes)" --sort-by "sum(bytes)" --desc log.csv
  partd group --by id --agg "median(v),quantile(v,0.9),regr_r2(v,w)" points.csv
  partd group --by 2 --no-header --agg "mean(4),list(1)" --to-format jsonl a.csv`,
	}
	by := cmd.Flags().String("by", "", "group by these `FIELDS`, separated by commas: names or numbers (1 is the first field, -1 the last)")
	aggregates := cmd.Flags().String("agg", "count", "compute this `LIST` of aggregates, such as count,sum(x)")
	topN := cmd.Flags().Int("top", 0, "write only the `N` groups with the largest value of an aggregate")
	topBy := cmd.Flags().String("top-by", "", "rank groups for --top by this `AGGREGATE` (default: the first of --agg); add :asc to select the smallest values")
	sortBy := cmd.Flags().String("sort-by", "", "sort the groups by this `AGGREGATE` of --agg (default: by the fields of --by)")
	desc := cmd.Flags().Bool("desc", false, "sort by --sort-by in descending order")
	in := fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		if *by == "" {
			return nil, cliutil.Usagef("--by is missing: set it to the fields to group by")
		}
		ranking := group.Top{N: *topN, By: cmp.Or(*topBy, *sortBy), Desc: *desc}
		switch {
		case *sortBy != "" && *topN > 0:
			return nil, cliutil.Usagef("--sort-by and --top cannot be used together: --top sorts by --top-by")
		case *desc && *sortBy == "":
			return nil, cliutil.Usagef("--desc needs --sort-by, the aggregate to sort by")
		case *topBy != "" && *topN == 0:
			return nil, cliutil.Usagef("--top-by needs --top N, the number of groups")
		case cmd.Flags().Changed("top") && *topN < 1 || *topN > filejobs.MaxTop:
			return nil, cliutil.Usagef("--top must be from 1 to %d, not %d; omit it to write all groups", filejobs.MaxTop, *topN)
		}
		return group.New(*by, *aggregates, ranking), nil
	})
	completeAggregates(cmd, in)
	return cmd
}
