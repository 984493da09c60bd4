package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/transform"
)

// transformFlags holds the flags of commands that create a table from other tables.
type transformFlags struct {
	a            *app
	p            location
	targetBucket *string
	mode         func() (tables.PutMode, error)
}

func newTransformFlags(a *app, cmd *cobra.Command, defaultMode string) *transformFlags {
	return &transformFlags{
		a: a, p: locationFlags(cmd, "the `BUCKET` of the tables (default: the default bucket)"),
		targetBucket: cmd.Flags().String("target-bucket", "", "the `BUCKET` of TARGET (default: the bucket given by --bucket)"),
		mode:         modeFlag(cmd, "TARGET", defaultMode),
	}
}

func (t *transformFlags) source(name string) transform.TableName {
	return transform.TableName{Bucket: *t.p.bucket, Name: name}
}

func (t *transformFlags) target(cmd *cobra.Command, name string) transform.TableName {
	target := t.source(name)
	if cmd.Flags().Changed("target-bucket") {
		target.Bucket = *t.targetBucket
	}
	return target
}

// transformCommand makes cmd run an operation and print the target's row count.
func transformCommand[In any](t *transformFlags, cmd *cobra.Command, o operations.Operation[In, transform.Result], input func(args []string, mode tables.PutMode) (*In, error)) *cobra.Command {
	var target string
	return operationCommand(cmd, t.p, o, func(args []string) (*In, error) {
		mode, err := t.mode()
		if err != nil {
			return nil, err
		}
		target = args[len(args)-1]
		return input(args, mode)
	}, func(_ *In, r transform.Result) error {
		return t.a.report("%s: %d rows put\n", displayName(target), r.TargetRows)
	})
}

func newResample(a *app) *cobra.Command {
	half := len(transform.Functions) / 2 // the help lists the functions on two lines
	cmd := &cobra.Command{
		Use:   "resample [flags] [--] SOURCE [TARGET]",
		Short: "Aggregate rows by time, or put the result of a query",
		Long: `Aggregate the rows of SOURCE into one row for each time bin, like resample in pandas, or run a
query with --sql. The resulting rows are put into TARGET. Without TARGET, they are written like the
rows of "partd-tables get".

--rule is the length of a bin, as a pandas offset such as 10s, 2h or W-FRI. The units are ns us ms s
min h D B W ME MS QE QS YE YS and others (docs/transform.md).
--func names one or more of these functions:
` + strings.Join(transform.Functions[:half], " ") + `
` + strings.Join(transform.Functions[half:], " ") + `.
A function can name its column, as in "max(high)". The first column of the result is the time.`,
		Example: `  partd-tables resample trades candles --rule 5min --time at --func ohlc --columns price
  partd-tables resample trades --rule 1h --time at --func mean,size --columns price -o hours.parquet
  partd-tables resample trades daily --rule D --time at --func mean,max --columns price --mode replace
  partd-tables resample minutes days --rule D --time at --func "first(open),max(high),last(close)"
  partd-tables resample trades totals --sql "SELECT sym, sum(size) AS size FROM trades GROUP BY sym"`,
	}
	t := newTransformFlags(a, cmd, "append")
	fs := cmd.Flags()
	o := &transform.ResampleOptions{}
	fs.StringVar(&o.Rule, "rule", "", "aggregate bins of this length: a pandas offset `RULE`, such as 5min")
	fs.StringVar(&o.TimeColumn, "time", "", "time `COLUMN`")
	fs.StringSliceVar((*[]string)(&o.Functions), "func", nil, "aggregate `FUNCTIONS`, separated by commas")
	columns := fs.String("columns", "", "`COLUMNS` to aggregate, separated by commas (default: all)")
	by := fs.String("by", "", "`COLUMNS` to group by, separated by commas, or \"\" for none (default: the table's keys)")
	fs.StringVar(&o.SQL, "sql", "", "use the result of this `SELECT` statement instead of --rule, --time and --func")
	cliutil.Complete(cmd, "func", transform.Functions...)
	out := outputFlags(a, cmd, "format")
	input := func(args []string, mode tables.PutMode) (_ *transform.ResampleOptions, err error) {
		if (o.SQL == "") == (o.Rule == "") {
			return nil, cliutil.Usagef("use either --sql, or --rule with --time and --func")
		}
		if o.Rule != "" && (o.TimeColumn == "" || len(o.Functions) == 0) {
			return nil, cliutil.Usagef("--rule needs --time and --func")
		}
		o.Source, o.Target, o.Mode = t.source(args[0]), t.target(cmd, args[len(args)-1]), mode
		o.Columns, err = columnNames("columns", *columns)
		if fs.Changed("by") && err == nil {
			o.By, err = columnNames("by", *by)
			o.By = append([]string{}, o.By...) // not nil, which would mean the table's keys
		}
		return o, err
	}
	putResult := transformCommand(t, cmd, operations.Resample, input).RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1 && (fs.Changed("output") || fs.Changed("format") || fs.Changed("force")):
			return cliutil.Usagef("--output, --format and --force cannot be combined with a TARGET")
		case len(args) > 1:
			return putResult(cmd, args)
		case fs.Changed("mode") || fs.Changed("target-bucket"):
			return cliutil.Usagef("--mode and --target-bucket need a TARGET")
		}
		o, err := input(args, tables.PutError)
		err = errors.Join(err, out.chooseFormat())
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		return t.p.withSQL(ctx, false, func(s backend) error {
			r, err := s.Resampled(ctx, o)
			return out.write(ctx, r, err)
		})
	}
	return cmd
}

func newCombine(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "combine [flags] [--] SOURCE SOURCE… TARGET",
		Short: "Put the union or the join of several tables into a table",
		Long: `Put the rows of several tables into TARGET. --how union puts all rows, one table after another;
columns missing from a source are null. --how join takes one row from each source and puts a row for
each combination with equal values in the columns named by --on.`,
		Example: `  partd-tables combine january february trades
  partd-tables combine trades names joined --how join --on sym`,
		Args: cliutil.CheckArgCount(3, -1, "two or more SOURCEs and TARGET"),
	}
	t := newTransformFlags(a, cmd, "error")
	o := &transform.CombineOptions{}
	cmd.Flags().StringVar(&o.How, "how", "union", "combine by `HOW`: union or join")
	joinKeys := cmd.Flags().String("on", "", "`COLUMNS` to join on, separated by commas")
	cliutil.Complete(cmd, "how", "union", "join")
	return transformCommand(t, cmd, operations.Combine, func(args []string, mode tables.PutMode) (_ *transform.CombineOptions, err error) {
		last := len(args) - 1
		for _, name := range args[:last] {
			o.Sources = append(o.Sources, t.source(name))
		}
		o.Target, o.Mode = t.target(cmd, args[last]), mode
		o.On, err = columnNames("on", *joinKeys)
		return o, err
	})
}

func newClean(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clean [flags] [--] SOURCE [TARGET]",
		Short: "Remove rows with nulls, duplicates and other unwanted rows",
		Long: `Copy SOURCE to TARGET without unwanted rows. Without TARGET, remove the rows from SOURCE itself, in
one commit.

--where is an SQL condition for the rows to keep. --drop-nulls drops rows with a null in any of the
named columns. --keep-first-of keeps only the first of several rows with equal values in the named
columns. The flags can be combined.`,
		Example: `  partd-tables clean trades --keep-first-of at,sym
  partd-tables clean trades good --where "price > 0" --drop-nulls price,size
  partd-tables clean trades --drop-any-null`,
	}
	t := newTransformFlags(a, cmd, "error")
	fs := cmd.Flags()
	o := &transform.CleanOptions{}
	fs.StringVar(&o.Where, "where", "", "keep rows for which this `CONDITION` is true")
	dropNulls := fs.String("drop-nulls", "", "drop rows with a null in any of these `COLUMNS`")
	fs.BoolVar(&o.DropAnyNull, "drop-any-null", false, "drop rows with a null in any column")
	keepFirst := fs.String("keep-first-of", "", "keep only the first row of each combination of values in these `COLUMNS`")
	return transformCommand(t, cmd, operations.Clean, func(args []string, mode tables.PutMode) (_ *transform.CleanOptions, err error) {
		o.DropNulls, err = columnNames("drop-nulls", *dropNulls)
		if err != nil {
			return nil, err
		}
		o.KeepFirstOf, err = columnNames("keep-first-of", *keepFirst)
		if err != nil {
			return nil, err
		}
		o.Source, o.Mode = t.source(args[0]), mode
		if len(args) > 1 {
			o.Target = new(t.target(cmd, args[1]))
		} else if fs.Changed("mode") || fs.Changed("target-bucket") {
			return nil, cliutil.Usagef("--mode and --target-bucket need a TARGET")
		}
		return o, nil
	})
}
