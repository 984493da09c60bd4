package cli

import (
	"github.com/spf13/cobra"
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
		Long:  groupHelp + "\n\n" + formatsHelp,
		Example: `  partd group --by "Origin State" birdstrikes.csv
  partd group --by user,day --agg "count,sum(bytes)" -o out.csv log-*.csv.gz
  partd group --by 2 --no-header --agg "mean(4),list(1)" --to-format jsonl a.csv`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	fs := cmd.Flags()
	g := grouping{
		by:  fs.String("by", "", "the fields `F,…` to group by: names, or numbers from 1 or from the end"),
		agg: fs.String("agg", "count", "`LIST` of aggregates, as in count,sum(x)"),
	}
	out := newOutputFlags(cmd)
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	completeFields(cmd, "by", &in)
	completeAggregates(cmd, &in)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *g.by == "" {
			return usagef("--by is missing: which fields make a group?")
		}
		return runFiles(cmd, a, args, &in, &out, &g, false)
	}
	return cmd
}

// formatsHelp is what the commands on files say of their input and output.
const formatsHelp = `Input: the name of a file tells its format (.csv; .tsv, .tab; .jsonl, .ndjson;
else text), --format overrules it, and standard input (-) needs it. A file that is
compressed with gzip, zstd, bzip2 or lz4 is known by its content. "partd shuffle
--help" has more about formats, fields and what is an error.

Output: standard output, or the file of -o, which is there whole or not at all;
one that exists is an error without --force. It is compressed if its name ends in
.gz, .zst, .bz2 or .lz4. --to-format says the format, else the name, else it is
that of the input.`
