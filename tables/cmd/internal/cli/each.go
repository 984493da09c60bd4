package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// eachCommand holds the flags and arguments of the command each.
type eachCommand struct {
	*jobFlags
	by      []string // values of --by
	sortBy  string   // value of --sort-by
	parts   int
	trust   bool
	explain bool
	out     *rowOutput

	sortColumns []string
	statement   string // "" if the rows of each part are written to files
	inputs      []eachInput
	read        []batches.Counted // the rows of each input
}

// eachInput is an input from the command line: the files of all arguments NAME=FILE with the same NAME.
type eachInput struct {
	name  string
	files []string
	by    []string
}

func newEach(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "each [flags] [--] [STATEMENT] NAME=FILE…",
		Short: "Run SQL on files larger than memory, one part of the keys at a time",
		Long: `Run STATEMENT, a SELECT in DuckDB's dialect, on files that are larger than memory. The rows are
divided into parts, so that rows with equal keys (values in the columns named by --by) are in the
same part, and the statement runs once for each part. Groups, joins and windows by these
keys therefore finish within about --memory, however large the files are. No table is created.

The statement sees the rows of FILE as the table NAME. If a NAME has several FILEs, repeat
NAME=FILE; a directory stands for all files in it and its subdirectories, and - is standard input.
If the key columns have different names in the inputs, give --by NAME=COLUMNS for each input.
Without --by, the key is taken from the statement: it consists of the columns that all joins compare
and that every GROUP BY, DISTINCT and PARTITION BY contains. NULL is a key, NaN equals NaN, and -0
equals 0.

Each join must compare all key columns, and each GROUP BY, DISTINCT and PARTITION BY must contain
them. Otherwise the result could depend on the parts: the statement is refused, and the error
says why. To run it anyway, use --trust.

The result is written to standard output, or to the file named by -o, in the order of the parts;
--sort-by sorts it. If -o ends with a slash, it names a new directory, which gets one file per
part. A file appears only when it is complete. Without STATEMENT, the rows of each part are
written to the files DIR/PART/NAME, so that another program can process them. Temporary files are
in $TMPDIR.

If the statement needs too much memory for a part, the part is divided, unless --parts is given. If
a single key has more rows than fit in memory, filters and most joins still work. An operation that
must hold all rows of a key, such as list, a window or a sort, then fails, and the message names
the key.`,
		Example: `  partd-tables each -o lists.parquet 'SELECT sym, list(price ORDER BY time) FROM rows GROUP BY sym' rows=trades.parquet
  partd-tables each --by l=sym --by r=symbol -o joined.parquet 'SELECT l.*, r.name FROM l LEFT JOIN r ON sym = symbol' l=trades.parquet r=names.csv
  partd-tables each --by user --sort-by user,time -o sessions.csv 'SELECT *, row_number() OVER (PARTITION BY user ORDER BY time) AS n FROM rows' rows=clicks/
  partd-tables each --by sym -o parts/ rows=trades.parquet`,
	}
	e := &eachCommand{jobFlags: newJobFlags(a, cmd)}
	flags := cmd.Flags()
	flags.StringArrayVar(&e.by, "by", nil, "key `COLUMNS`, separated by commas; NAME=COLUMNS gives the key columns of the input NAME (default: from the statement)")
	flags.StringVar(&e.sortBy, "sort-by", "", "sort the result by these `COLUMNS`, separated by commas")
	flags.IntVar(&e.parts, "parts", 0, "divide the rows into `N` parts (default: the number that --memory requires)")
	flags.BoolVar(&e.trust, "trust", false, "run the statement even if its result could depend on the parts")
	flags.BoolVar(&e.explain, "explain", false, "describe how the statement would run, without running it")
	e.out = outputFlags(a, cmd, "to-format")
	cmd.Args = cliutil.CheckArgCount(1, -1, "a statement, and NAME=FILE for each input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return e.run(cmd.Context(), args) }
	return cmd
}

func (e *eachCommand) run(ctx context.Context, args []string) error {
	if err := e.parse(args); err != nil {
		return err
	}
	isDir := strings.HasSuffix(e.out.file, "/")
	if isDir {
		e.out.format = cmp.Or(e.out.format, "parquet")
	}
	sortBy, err := columnNames("sort-by", e.sortBy)
	err = errors.Join(err, e.out.chooseFormat())
	if err != nil {
		return err
	}
	e.sortColumns = sortBy
	switch {
	case e.parts < 0:
		return cliutil.Usagef("--parts is %d: it must not be negative", e.parts)
	case *e.json && !e.explain && e.out.file == "":
		return cliutil.Usagef("--json needs -o: standard output has the rows; to write them as JSON, use --to-format jsonl")
	case e.out.force && isDir: // after a run with fewer parts, files of the earlier run would remain
		return cliutil.Usagef("--force does not apply to a directory: name a new or empty directory")
	case e.sortBy != "" && isDir:
		return cliutil.Usagef("--sort-by needs a single output: leave out the slash at the end of -o")
	case e.sortBy != "" && e.memory.Bytes < 2*minJobMemory:
		return cliutil.Usagef("--sort-by needs more memory: use a --memory of 128MiB or more")
	case e.statement == "" && (!isDir || e.explain || e.trust):
		return cliutil.Usagef("without a statement, the rows of each part are written to a directory: use -o DIR/, and neither --explain nor --trust")
	}
	if info, err := os.Stat(e.out.file); !isDir && !e.out.force && !e.explain && err == nil && info.Mode().IsRegular() { // fail now, not after the job
		return suggestForce(&fs.PathError{Op: "create", Path: e.out.file, Err: output.ErrExists})
	}
	paths := make([][]string, len(e.inputs))
	for i, in := range e.inputs {
		paths[i] = in.files
	}
	heap := e.memory.Bytes
	heapAfter := int64(0)
	if e.statement != "" { // after the rows have been read, DuckDB starts and needs the rest of the memory
		heap, heapAfter = heap*3/4, (heap-e.sortMemory())/4+32<<20+e.sortMemory()/2 // bulk.Sort holds half of its rows outside the heap
	}
	written, parts := int64(0), 0
	err = e.runInputs(ctx, paths, heap, heapAfter, "$TMPDIR, and the output is named by -o", func(rows []array.RecordReader) (err error) {
		e.read = make([]batches.Counted, len(rows))
		for i := range rows {
			e.read[i].RecordReader = rows[i]
		}
		if e.explain {
			return e.printPlan(ctx)
		}
		if len(e.inputs[0].by) == 0 {
			if err := e.findKeys(ctx); err != nil {
				return err
			}
		}
		switch {
		case isDir:
			written, parts, err = e.writeDir(ctx)
		default:
			written, parts, err = e.writeOne(ctx)
		}
		return err
	})
	if errors.Is(err, duck.ErrNotPerKey) {
		return cliutil.Advise(err, "; to run it anyway, use --trust")
	}
	if err != nil || e.explain || e.out.file == "" {
		return err
	}
	return e.report(written, parts)
}

var inputArgument = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)

// parse sets statement and inputs. The first argument is the statement, unless it has the form NAME=FILE, which no
// statement has.
func (e *eachCommand) parse(args []string) error {
	if !inputArgument.MatchString(args[0]) {
		e.statement, args = args[0], args[1:]
	}
	for _, arg := range args {
		match := inputArgument.FindStringSubmatch(arg)
		if match == nil {
			return cliutil.Usagef("%q is not an input: write NAME=FILE, such as rows=%s; a NAME has letters, digits and underscores", arg, arg)
		}
		i := slices.IndexFunc(e.inputs, func(in eachInput) bool { return strings.EqualFold(in.name, match[1]) })
		if i < 0 {
			i = len(e.inputs)
			e.inputs = append(e.inputs, eachInput{name: match[1]})
		}
		e.inputs[i].files = append(e.inputs[i].files, match[2])
	}
	if len(e.inputs) == 0 {
		return cliutil.Usagef("no input is named: write NAME=FILE after the statement, such as rows=data.parquet")
	}
	return e.parseBy()
}

// parseBy sets the key columns of the inputs from --by.
func (e *eachCommand) parseBy() error {
	var common []string            // from --by COLUMNS: the key columns of all inputs that are not in perInput
	perInput := map[int][]string{} // from --by NAME=COLUMNS: the key columns, by the input's index
	for _, text := range e.by {
		name, list, hasName := strings.Cut(text, "=")
		i := slices.IndexFunc(e.inputs, func(in eachInput) bool { return hasName && strings.EqualFold(in.name, name) })
		if i < 0 {
			list = text
		}
		by, err := columnNames("by", list)
		if err != nil {
			return err
		}
		if i >= 0 {
			if perInput[i] != nil {
				return cliutil.Usagef("--by names the columns of input %s twice: separate them by commas", name)
			}
			perInput[i] = by
			continue
		}
		if common != nil {
			return cliutil.Usagef("--by names columns twice: separate them by commas, or write NAME=COLUMNS for each input")
		}
		common = by
	}
	if common != nil && len(perInput) == len(e.inputs) {
		return cliutil.Usagef("--by %s applies to no input, because each input has its own: leave it out, or write NAME=COLUMNS with the name of an input", strings.Join(common, ","))
	}
	for i := range e.inputs {
		e.inputs[i].by = common
		if perInput[i] != nil {
			e.inputs[i].by = perInput[i]
		}
	}
	if len(e.by) == 0 && e.statement != "" && !e.trust {
		return nil // duck.Each finds the key
	}
	for _, in := range e.inputs {
		if len(in.by) == 0 {
			return cliutil.Usagef("--by is required: name the key columns, or write --by %[1]s=COLUMNS for the input %[1]s", in.name)
		}
		if len(in.by) != len(e.inputs[0].by) {
			return cliutil.Usagef("--by names %d columns of input %s, but %d of input %s: name the same number for each input", len(e.inputs[0].by), e.inputs[0].name, len(in.by), in.name)
		}
	}
	return nil
}

// options returns the inputs and options of the statement.
func (e *eachCommand) options() (inputs []duck.EachInput, o *duck.EachOptions) {
	for i := range e.read {
		inputs = append(inputs, duck.EachInput{Name: e.inputs[i].name, Rows: &e.read[i], By: e.inputs[i].by})
	}
	return inputs, &duck.EachOptions{Memory: e.memory.Bytes - e.sortMemory(), Parts: e.parts, Trust: e.trust}
}

// findKeys sets the key columns of the inputs from the statement.
func (e *eachCommand) findKeys(ctx context.Context) error {
	plan, err := e.plan(ctx)
	if err != nil {
		return err
	}
	for i, in := range plan.Inputs {
		e.inputs[i].by = in.By
		fmt.Fprintf(e.a.errOut, "%s: key %s, from the statement\n", in.Name, strings.Join(in.By, ", "))
	}
	return nil
}

// sortMemory returns how much of --memory is used to sort the result, in bytes.
func (e *eachCommand) sortMemory() int64 {
	if e.sortBy == "" {
		return 0
	}
	return max(minJobMemory, e.memory.Bytes/4)
}

func (e *eachCommand) printPlan(ctx context.Context) error {
	plan, err := e.plan(ctx)
	if err != nil {
		return err
	}
	if *e.json {
		return cliutil.NewEncoder(e.a.out).Encode(plan)
	}
	parts := fmt.Sprintf("parts with at most %d MiB of rows, unless one key has more", plan.PartBytes>>20)
	if e.parts > 0 {
		parts = count(int64(e.parts), "part")
	}
	fmt.Fprintf(e.a.out, "%s; DuckDB has %d MiB of memory\n", parts, plan.Memory>>20)
	for _, in := range plan.Inputs {
		fmt.Fprintf(e.a.out, "%s: key %s; columns %s\n", in.Name, strings.Join(in.By, ", "), strings.Join(in.Columns, ", "))
	}
	_, err = fmt.Fprintln(e.a.out, e.statement)
	return err
}

// report writes how many rows were read and written.
func (e *eachCommand) report(written int64, parts int) error {
	read := map[string]int64{}
	texts := make([]string, len(e.inputs))
	for i, in := range e.inputs {
		read[in.name] = e.read[i].Rows
		texts[i] = count(e.read[i].Rows, "row") + " of " + in.name
	}
	result := struct {
		Read    map[string]int64 `json:"rows_read"`
		Written int64            `json:"rows_written"`
		Parts   int              `json:"parts"`
	}{read, written, parts}
	return e.a.printResult(*e.json, result, "%s read, %s written, %s\n", strings.Join(texts, " and "), count(written, "row"), count(parts, "part"))
}
