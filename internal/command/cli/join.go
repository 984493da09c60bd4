package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// joinKinds are the values of --how, indexed by kind.
var joinKinds = []string{
	mergejoin.Inner: "inner", mergejoin.Left: "left", mergejoin.Right: "right",
	mergejoin.Full: "full", mergejoin.Semi: "semi", mergejoin.Anti: "anti",
}

const joinHelp = `Read two files and write the pairs of records that are equal in the fields named
by --on. Both files may be larger than memory, and so may the records that share a
value: data that does not fit in memory goes to temporary files. The output has
no particular order.

--on names the fields: F, or F,G for several fields, or F=G if the field F of
LEFT is called G in RIGHT.

--how selects what happens to records without a partner:
  inner  drop them (the default)
  left   write those of LEFT, with missing columns of RIGHT
  right  write those of RIGHT, with missing columns of LEFT
  full   write those of both
  semi   write only the records of LEFT that have a partner, once and unchanged
  anti   write only the records of LEFT that have no partner

Fields are compared as bytes: 1 is not 1.0. A missing value (an empty field;
null or no member in jsonl) in any field matches nothing, like NULL in SQL.
--match-empty makes it a value like any other.

A row has the fields named by --on, with their names in LEFT, then the other
fields of LEFT, then those of RIGHT. A name that is already used gets the suffix
"_right". --where and --columns apply to these rows.

If only one file has a name that tells its format, --format applies to the other
file.

If the smaller file fits in about three quarters of --memory, it is kept in
memory, and rows are written while the other file is read. Otherwise both files
are sorted. --stats shows which method was used.

If files are sorted, a record may be as long as a two-hundredth of --memory; its
fields named by --on count twice.

At the end, the number and a checksum of the joined records are compared with
those of the records read, and the pairs of each value are counted.`

func checkJoinFiles(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return cliutil.Usagef("RIGHT is missing: name a second file to join with %q (to read standard input, use - with --format)", args[0])
	}
	return cliutil.CheckArgCount(2, 2, "LEFT and RIGHT (to read standard input, use - with --format)")(cmd, args)
}

func newJoin(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join --on F[=G][,F[=G]…] [--how KIND] [flags] [--] LEFT RIGHT",
		Short: "Join two files by fields",
		Long:  joinHelp + formatsHelp,
		Example: `  partd join --on user orders.csv users.csv
  partd join --on "Origin State=state" --how left strikes.csv states.csv
  partd join --on "before(path, '/')=dir" --columns dir,owner f.csv owners.csv
  partd join --on 1 --how anti --no-header --format csv new.csv -`,
		Args: checkJoinFiles,
	}
	fields := cmd.Flags().String("on", "", "join on these `FIELDS`: F, or F=G, separated by commas")
	kindName := cmd.Flags().String("how", "inner", "select the `KIND` of join: "+strings.Join(joinKinds, ", "))
	matchEmpty := cmd.Flags().Bool("match-empty", false, "let missing values match each other")
	cliutil.Complete(cmd, "how", joinKinds...)
	in, out := newInputFlags(cmd, "write the summary of --stats as a JSON object; for rows as JSON, use --to-format jsonl", "", "null", "decimal", "thousands"), newOutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		kind := slices.Index(joinKinds, *kindName)
		switch {
		case *fields == "":
			return cliutil.Usagef("--on is missing: set it to the fields to join on")
		case kind < 0:
			return cliutil.Usagef("--how %q is unknown: use one of %s", *kindName, strings.Join(joinKinds, ", "))
		}
		if err := in.check(); err != nil {
			return err
		}
		left, right, err := in.joinLayouts(files)
		if err != nil {
			return err
		}
		return runFiles(cmd, a, files[:1], left, &in, &out, filejobs.Join(filejobs.JoinOptions{
			On: *fields, Kind: mergejoin.Kind(kind), MatchEmpty: *matchEmpty, Right: files[1], RightFrom: right,
		}))
	}
	completeFields(cmd, "on", &in)
	return cmd
}
